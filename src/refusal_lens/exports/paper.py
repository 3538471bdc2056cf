"""A text block for papers and cards, as Markdown and as LaTeX: methods, numbers with intervals, limits. One content, two hands.

Texts that a run carries (model, judge, reasons) are escaped for the language they are written in. A cell that was not
measured is a dash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from refusal_lens.exports.measured import LIBRARY, Measured
from refusal_lens.report.appendix import LIMITS
from refusal_lens.report.facts import HeadlineRow, source_name
from refusal_lens.report.shares import NullShare, Share, interval, number, percent
from refusal_lens.report.text import clean, listing
from refusal_lens.report.words import headline, verdict_of

NONE = "–"
HEADS = (
    "Language",
    "Harmful answered, untouched",
    "direction ablated",
    "random ablated",
    "Harmless refused, untouched",
    "direction added",
    "Judge κ",
)
CAPTION = (
    "Share in percent with k/n and the 95 % Wilson interval. Random: mean over random directions of equal norm. κ: agreement"
    " of the judge with reference labels in that language."
)


@dataclass(frozen=True)
class TextBlock:
    """What the text says, before it is written in a language: title, methods, findings, table rows, limits."""

    title: str
    methods: str
    findings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    limits: tuple[str, ...]


def text_block(run: Measured) -> TextBlock:
    """What a paper or card says of a run.

    Args:
        run: What was measured.

    Returns:
        The text, unescaped.
    """
    facts = run.facts
    verdict = verdict_of(facts)
    findings = [statement.text for statement in headline(facts)]
    if verdict is not None:
        findings.append(f"Verdict: {verdict[0]}. {verdict[1]}".strip())
    rows = [_row(run, row) for row in facts.headline]
    return TextBlock(
        f"Refusal audit of {facts.model}",
        _methods(run),
        tuple(_flat(text) for text in findings),
        tuple(tuple(_flat(cell) for cell in row) for row in rows),
        LIMITS,
    )


def to_markdown(run: Measured) -> bytes:
    """The text block as Markdown (a table of GitHub's kind)."""
    block = text_block(run)
    table = [HEADS, ("---",) * len(HEADS), *block.rows]
    lines = [
        f"## {_markdown(block.title)}",
        "",
        f"**Methods.** {_markdown(block.methods)}",
        "",
        f"**Findings.** {_markdown(' '.join(block.findings))}",
        "",
        *(f"| {' | '.join(_markdown(cell) if line is not table[1] else cell for cell in line)} |" for line in table),
        "",
        _markdown(CAPTION),
        "",
        "**Limits.**",
        "",
        *(f"- {_markdown(limit)}" for limit in block.limits),
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", errors="replace")


def to_latex(run: Measured) -> bytes:
    """The text block as LaTeX: paragraphs, a `tabular` with the rules of booktabs, a list."""
    block = text_block(run)
    heads = _cells(HEADS, _latex)
    lines = [
        f"% Written by {LIBRARY} {_one_line(run.version)}. Needs \\usepackage{{booktabs}} and UTF-8.",
        f"\\paragraph{{{_latex(block.title)}}}",
        f"\\textbf{{Methods.}} {_latex(block.methods)}",
        "",
        f"\\textbf{{Findings.}} {_latex(' '.join(block.findings))}",
        "",
        "\\begin{table}[t]",
        "\\centering\\small",
        f"\\begin{{tabular}}{{l{'r' * (len(HEADS) - 1)}}}",
        "\\toprule",
        f"{heads} \\\\",
        "\\midrule",
        *(f"{_cells(row, _latex)} \\\\" for row in block.rows),
        "\\bottomrule",
        "\\end{tabular}",
        f"\\caption{{{_latex(CAPTION)}}}",
        "\\end{table}",
        "",
        "\\textbf{Limits.}",
        "\\begin{itemize}",
        *(f"\\item {_latex(limit)}" for limit in block.limits),
        "\\end{itemize}",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", errors="replace")


def _methods(run: Measured) -> str:
    facts = run.facts
    names = [row.name for row in facts.headline]
    asked = [row.harmful_baseline.n + row.harmful_baseline.unscored for row in facts.headline if row.harmful_baseline]
    size = "" if not asked else f"{min(asked)}" if min(asked) == max(asked) else f"{min(asked)} to {max(asked)}"
    random = facts.setting("directions", "random")
    limit = f", at most {run.max_new_tokens} tokens" if run.max_new_tokens is not None else ""
    said = [
        f"We audited {facts.model} with {LIBRARY} {run.version} in {len(names)} language"
        f"{'' if len(names) == 1 else 's'} ({listing(names)}).",
        f"In each it answered {size} harmful test prompts, greedily{limit}." if size else "",
        f"Answers were judged by {facts.judge or 'a judge that the run does not name'}; what could not be judged is in no rate.",
    ]
    if facts.main_source:
        said.append(
            f"The refusal direction is the difference of means (harmful less harmless) from {source_name(facts.main_source)},"
            f" chosen by the rule {facts.setting('directions', 'rule') or 'that the run recorded'}"
            f"{f', layer {facts.selected_layer}' if facts.selected_layer is not None else ''}; ablation projects it out of the"
            f" residual stream. Null: random directions of equal norm, {random if random is not None else 'none'}."
        )
    return _flat(" ".join(part for part in said if part))


def _row(run: Measured, row: HeadlineRow) -> tuple[str, ...]:
    known = run.facts.reliability(row.language)
    return (
        row.name,
        _share(row.harmful_baseline),
        _share(row.harmful_ablated),
        _null(row.harmful_random),
        _share(row.harmless_baseline),
        _share(row.harmless_added),
        NONE if known is None else f"{number(known.kappa)} (n = {known.n})",
    )


def _share(share: Share | None) -> str:
    if share is None or share.rate is None:
        return NONE
    return f"{percent(share.rate)} ({share.k}/{share.n}) {interval(share)}".rstrip()


def _null(null: NullShare | None) -> str:
    return NONE if null is None or null.mean is None else percent(null.mean)


def _flat(text: str) -> str:
    return clean(text).replace("\N{NO-BREAK SPACE}", " ")


def _one_line(text: str) -> str:
    return " ".join(clean(text).split())


def _cells(cells: Sequence[str], escape: Callable[[str], str]) -> str:
    return " & ".join(escape(cell) for cell in cells)


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no table cell broken, no HTML."""
    return re.sub(r"([\\`*_\[\]<>|#~&$@])", r"\\\1", _one_line(text))


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "$": r"\$", "#": r"\#", "&": r"\&", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": "{[}", "]": "{]}", "–": "--", "−": r"\ensuremath{-}", "κ": r"\ensuremath{\kappa}", "…": r"\ldots{}",
}  # fmt: skip


def _latex(text: str) -> str:
    """Text that LaTeX shows as it is; a bracket is braced, since one behind a line break would begin a length."""
    return "".join(_LATEX.get(letter, letter) for letter in _one_line(text))
