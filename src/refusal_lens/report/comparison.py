"""Two or more runs on one page: checkpoints side by side, paired with the first run where the prompts match.

A difference is called one where the paired test survives Holm's correction over the languages of its family; beside it
stands the smallest difference that so many pairs could show, because "no difference seen" says little without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusal_lens.core.names import ALPHA, BASELINE, DISAGREE, is_null, is_pool
from refusal_lens.core.tables import PANEL, VERDICTS, PanelRow, VerdictRow
from refusal_lens.errors import UserError
from refusal_lens.measure import compare_runs, minimum_detectable_effect, wilson
from refusal_lens.measure.compare import ComparedRow
from refusal_lens.measure.panel import disagree
from refusal_lens.report.facts import Facts, language_name, source_name
from refusal_lens.report.inputs import read_inputs
from refusal_lens.report.shares import Share, p_text, percent
from refusal_lens.report.text import clean, listing
from refusal_lens.report.views import Cell, Note, Section, Table, TableOf, points_cell, share_cell
from refusal_lens.report.words import Statement


@dataclass(frozen=True)
class Comparison:
    """What the page shows: its sentences, its sections, and how many languages the runs have together."""

    names: tuple[str, ...]
    statements: tuple[Statement, ...]
    sections: tuple[Section, ...]
    n_languages: int


def compare(runs: Sequence[Path]) -> Comparison:
    """Compare runs with the first of them.

    Args:
        runs: Run directories of audits, at least two.

    Returns:
        What the page shows.

    Raises:
        RunError: One of the folders holds no run.
        DataError: A run has no readable table of verdicts.
        UserError: One run is named twice.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("the same run is named twice: compare different runs")
    every = [Facts(read_inputs(run)) for run in runs]
    short = [clean(run.resolve().name) for run in runs]
    names = short if len(set(short)) == len(short) else [clean(str(run.resolve())) for run in runs]
    rows = compare_runs(
        {name: _verdicts(facts) for name, facts in zip(names, every, strict=True)},
        panels={name: _votes(facts) for name, facts in zip(names, every, strict=True)},
    )
    cells = {(row["intervention"], row["source"], row["prompts"], row["run"], row["language"]): row for row in rows}
    codes = every[0].ordered(row["language"] for row in rows)
    sources = every[0].ordered(row["source"] for row in rows if row["intervention"] == "ablation")
    parts = [
        ("harmful", "Harmful prompts answered, untouched", BASELINE, "", "harmful"),
        ("harmless", "Harmless prompts refused, untouched", BASELINE, "", "harmless"),
        *(
            (
                f"ablated-{at}",
                f"Harmful prompts answered, direction from {source_name(source)} ablated",
                "ablation",
                source,
                "harmful",
            )
            for at, source in enumerate(sources)
        ),
    ]
    sections: list[Section] = []
    statements: list[Statement] = []
    for part, title, intervention, source, harm in parts:
        own = {
            (name, code): row
            for (kind, of, prompts, name, code), row in cells.items()
            if (kind, of, prompts) == (intervention, source, harm)
        }
        table = _table(
            title,
            names,
            [code for code in codes if any((name, code) in own for name in names)],
            own,
            refusals=harm == "harmless",
        )
        if table is None:
            continue
        said = [
            _said(
                title, name, names[0], [row for (of, _), row in own.items() if of == name], refusals=harm == "harmless"
            )
            for name in names[1:]
        ]
        statements += [Statement(text) for text in said if text and intervention == BASELINE]
        sections.append(Section(part, title, [*(Note(text) for text in said if text), table]))
    return Comparison(tuple(names), tuple(statements), tuple(sections), len(codes))


def _verdicts(facts: Facts) -> list[VerdictRow]:
    """Verdicts on the main prompt set under the conditions that the page shows."""
    rows = VERDICTS.read(facts.inputs.root / "tables" / "verdicts.parquet")
    shown = [row for row in rows if row["intervention"] in (BASELINE, "ablation") and not is_null(row["source"])]
    return [
        row
        for row in facts.of_main(shown)
        if not is_pool(row["source"]) and (row["intervention"] == BASELINE or row["prompts"] == "harmful")
    ]


def _votes(facts: Facts) -> list[PanelRow]:
    """Every judge's verdicts; none where one judge alone judged."""
    file = facts.inputs.root / "tables" / "panel.parquet"
    return PANEL.read(file) if file.exists() else []


def _table(
    title: str,
    names: Sequence[str],
    codes: Sequence[str],
    own: Mapping[tuple[str, str], ComparedRow],
    *,
    refusals: bool,
) -> Table | None:
    table = TableOf(codes).words("language", language_name)
    for name in names:
        table.cells(
            name, lambda code, name=name: share_cell(_share(own.get((name, code)), refusals=refusals), ""), "share"
        )
    for name in names[1:]:
        table.cells(
            name,
            lambda code, name=name: _difference(own.get((name, code)), refusals=refusals),
            f"points against {names[0]}",
        )
    return table.made(
        f"{title}: every run's share with counts and a 95 % interval, then the paired difference with its interval, p value"
        " (Holm) and the smallest difference that so many pairs could show"
    )


def _share(row: ComparedRow | None, *, refusals: bool) -> Share | None:
    if row is None:
        return None
    low, high = wilson(row["k"], row["n"])
    share = Share(row["k"], row["n"], row["unscored"], row["rate"], low, high)
    return share.complement if refusals else share


def _difference(row: ComparedRow | None, *, refusals: bool) -> Cell:
    if row is None or row["difference"] is None or row["low"] is None or row["high"] is None:
        return Cell("not paired", tone="quiet")
    ends = (-row["high"], -row["low"]) if refusals else (row["low"], row["high"])
    cell = points_cell(-row["difference"] if refusals else row["difference"], *ends)
    if disagree(row):
        return Cell(DISAGREE, note="no result", more=f"{cell.text} {cell.note}", tone="warn")
    more = f"{p_text(row['p_holm'])}, {row['paired']} pairs, visible from {_visible(row['paired'] or 0)}"
    return Cell(cell.text, note=cell.note, more=more, value=cell.value)


def _visible(pairs: int) -> str:
    least = minimum_detectable_effect(pairs) if pairs else None
    return "no difference" if least is None else percent(least)


def _said(title: str, name: str, reference: str, rows: Sequence[ComparedRow], *, refusals: bool) -> str:
    """What changed beyond chance in one run, worst first, and what could not have been seen."""
    paired = [row for row in rows if row["difference"] is not None and row["paired"]]
    if not paired:
        return ""
    sign = -1 if refusals else 1
    sure = [row for row in paired if row["p_holm"] is not None and row["p_holm"] < ALPHA and not disagree(row)]
    more, less = (
        [language_name(row["language"]) for row in sure if direction * sign * (row["difference"] or 0.0) > 0]
        for direction in (1, -1)
    )
    fewest = min(row["paired"] or 0 for row in paired)
    parts = [f"more in {listing(more)}"] * bool(more) + [f"fewer in {listing(less)}"] * bool(less)
    seen = listing(parts) if parts else f"no language of {len(paired)} differs by more than chance"
    return f"{title}, {name} against {reference}: {seen}. Over {fewest} pairs a difference is seen from {_visible(fewest)} on."
