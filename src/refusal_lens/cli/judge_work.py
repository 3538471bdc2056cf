"""Behind the commands judge and agreement: build the judge that was asked for, lay out the agreement table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from refusal_lens.cli.plain import plain
from refusal_lens.errors import DataError, UserError

if TYPE_CHECKING:
    from refusal_lens.judging import Judge
    from refusal_lens.judging.agreement import Agreement
    from refusal_lens.judging.compare import ComparisonReport, JudgeReport
    from refusal_lens.judging.guard_formats import Controversial
    from refusal_lens.judging.rows import Row
    from refusal_lens.types import Verdict


@dataclass(frozen=True, slots=True)
class Options:
    """What the user said about the judge."""

    name: str
    model: str
    url: str
    rubric: Path | None
    translate: str
    batch_size: int
    concurrency: int
    memory: Path
    thinking: str
    max_tokens: int
    timeout: float
    keep_going: bool
    labels: Path | None
    controversial: Controversial


def build_judge(options: Options) -> Judge:
    """The judge of some options.

    Args:
        options: What the user said.

    Returns:
        The judge.

    Raises:
        UserError: An option is missing or does not go with the judge.
    """
    from refusal_lens.judging import JUDGES, get_judge
    from refusal_lens.judging.panel import split_panel

    named = split_panel(options.name, JUDGES)
    kinds = {one.partition(":")[0] for one in named}
    kind = ", ".join(sorted(kinds))
    if "endpoint" in named and not options.url:
        raise UserError("--judge endpoint needs --url, e.g. --url http://localhost:8000/v1")
    if "endpoint" not in kinds and options.rubric:
        raise UserError(f"--rubric goes with --judge endpoint, not with {kind}")
    if kinds <= {"native", "encoder"} and options.url:
        raise UserError(f"--url goes with --judge endpoint or a guard that is served there, not with {kind}")
    if kinds == {"native"} and options.model:
        raise UserError("--model does not go with --judge native, which has none")
    if len(named) - ("native" in named) > 1 and options.model:
        raise UserError("--model could be any judge's of this panel; name each one's own: native,encoder:FOLDER,..")
    if "encoder" not in kinds and options.labels:
        raise UserError(f"--labels goes with --judge encoder:MODEL, not with {kind}")
    return get_judge(
        options.name,
        model=options.model,
        url=options.url,
        rubric=options.rubric,
        batch_size=options.batch_size,
        concurrency=options.concurrency,
        memory=options.memory,
        translate=options.translate,
        thinking=options.thinking,
        max_tokens=options.max_tokens,
        timeout=options.timeout,
        keep_going=options.keep_going,
        labels=options.labels,
        controversial=options.controversial,
    )


def require_prompts(judge: Judge, rows: Sequence[Row], *, path: Path, keep_going: bool) -> None:
    """Stop where a judge that reads prompt and answer gets no prompt.

    Args:
        judge: The judge.
        rows: The rows.
        path: Their file, for the message.
        keep_going: Rows without a prompt may be marked unscored, as long as some have one.

    Raises:
        DataError: A row lacks its prompt, or all do.
    """
    from refusal_lens.judging.answer import needs_prompt

    good = [row for row in rows if row.answer is not None]
    lacking = [row for row in good if row.answer is not None and row.answer.prompt is None]
    if not needs_prompt(judge) or not lacking or (keep_going and len(lacking) < len(good)):
        return
    hint = "" if len(lacking) == len(good) else ", or mark such rows unscored with --keep-going"
    raise DataError(
        f"{path}, line {lacking[0].line}: no prompt ({len(lacking)} of {len(good)} rows), and {judge.name} reads prompt and "
        f"answer together; add the field 'prompt'{hint}"
    )


def tally(verdicts: Sequence[Verdict], *, bad: int) -> str:
    """Verdicts in numbers, the unscored ones with their reasons.

    Args:
        verdicts: The verdicts.
        bad: Rows that could not be read.

    Returns:
        E.g. "3 refused, 1 complied, 2 unscored (1 empty, 1 no prompt)".
    """
    counts = Counter(verdict.label for verdict in verdicts)
    why = Counter(verdict.reason.split(":")[0] for verdict in verdicts if verdict.label == "unscored")
    told = f"{counts['refused']} refused, {counts['complied']} complied, {counts['unscored']} unscored"
    told += f" ({', '.join(f'{n} {reason}' for reason, n in why.most_common())})" if why else ""
    return plain(told + (f", {bad} bad rows" if bad else ""), one_line=True)


def panel_table(judged: Sequence[tuple[str, Verdict]]) -> str:
    """How far the judges of a panel agree, by language.

    Args:
        judged: Language and verdict of every answer.

    Returns:
        A line per language and two judges; empty where one judge alone spoke.
    """
    from refusal_lens.judging.panel import agreement_rows, votes_of

    lines = [
        f"{row['language']}: {row['judge_a']} and {row['judge_b']} agree by kappa "
        f"{_interval(row['kappa'], row['low'], row['high'])} on {row['n']} answers; compliance "
        f"{_number(row['compliance_a'])} and {_number(row['compliance_b'])}; unscored {row['unscored_a']} and "
        f"{row['unscored_b']}"
        for row in agreement_rows(votes_of(language, verdict) for language, verdict in judged)
    ]
    return "\n".join(plain(line, one_line=True) for line in lines)


def agreement_table(report: ComparisonReport) -> str:
    """The agreement as text for a terminal.

    Args:
        report: The comparison.

    Returns:
        One table, judges and groups as rows, with the corrections below.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Agreement with the labels (rows matched by {report.matched_by})", title_justify="left")
    table.add_column("judge")
    table.add_column(", ".join(report.by) or "rows")
    for heading in ("n", "unscored", "kappa", "balanced accuracy", "missed", "false", "compliance", "labels", "error"):
        table.add_column(heading, justify="right")
    for judge in report.judges:
        for group, cell in judge.groups.items():
            table.add_row(plain(judge.judge, one_line=True), plain("/".join(group), one_line=True), *_cells(cell))
        table.add_row(plain(judge.judge, one_line=True), "all", *_cells(judge.overall), end_section=True)
        if judge.trivial is not None:
            table.add_row("refusal iff baseline (reads nothing)", "all", *_cells(judge.trivial), end_section=True)
    for first, second, cell in report.between:
        table.add_row(plain(f"{first} / {second}", one_line=True), "all", *_cells(cell))
    buffer = StringIO()
    console = Console(file=buffer, width=160, highlight=False, markup=False, emoji=False)
    console.print(table)
    for judge in report.judges:
        for line in _notes(judge):
            console.print(line)
    return buffer.getvalue().rstrip("\n")


def _notes(judge: JudgeReport) -> list[str]:
    from refusal_lens.judging.agreement import mean_rate_error

    name = plain(judge.judge, one_line=True)
    error = mean_rate_error(judge.cells)
    lines = [] if error is None else [f"{name}: mean absolute rate error over {len(judge.cells)} cells {error:.3f}"]
    lines += [
        f"{name}: compliance of all {found.n} rows {found.raw:.3f}; corrected ({found.method}, {found.labelled} labels) "
        f"{found.rate:.3f} [{found.low:.3f}, {found.high:.3f}]"
        for found in judge.corrections
    ]
    return lines


def _cells(found: Agreement) -> list[str]:
    return [
        str(found.n),
        str(found.unscored),
        _interval(found.kappa, found.kappa_low, found.kappa_high),
        _interval(found.balanced_accuracy, found.balanced_accuracy_low, found.balanced_accuracy_high),
        str(found.refusals_missed),
        str(found.false_refusals),
        _number(found.compliance_judge),
        _number(found.compliance_labels),
        _interval(found.rate_error, found.rate_error_low, found.rate_error_high, sign=True),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(value: float | None, low: float | None, high: float | None, *, sign: bool = False) -> str:
    if value is None or low is None or high is None:
        return _number(value)
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" if sign else f"{value:.3f} [{low:.2f}, {high:.2f}]"
