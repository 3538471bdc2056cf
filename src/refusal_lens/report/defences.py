"""Defences beside a run: what each costs and saves under its worst attacker, and the language it protects least.

Read from the table `bench_selectivity` of a folder of `defence-bench`. A mean never stands without its worst language.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, cast

from refusal_lens.core.bench_tables import BENCH_SELECTIVITY, BenchSelectivityRow
from refusal_lens.core.digests import digest_file
from refusal_lens.report.charts.pareto import CLASSES, pareto_points, pareto_spec
from refusal_lens.report.facts import language_name
from refusal_lens.report.shares import mean, percent
from refusal_lens.report.text import clean
from refusal_lens.report.views import Block, Cell, Figure, Note, Section, Table, TableOf, points_cell

Group: TypeAlias = tuple[str, str, list[BenchSelectivityRow]]


def bench_file(folder: Path) -> Path:
    """Where the table of a bench lies."""
    return folder / "tables" / f"{BENCH_SELECTIVITY.name}.parquet"


def bench_digest(folder: Path) -> str:
    """Changes whenever the section would."""
    return digest_file(bench_file(folder))


def defence_section(folder: Path) -> Section:
    """The section of a bench.

    Args:
        folder: Folder of `defence-bench`.

    Returns:
        A figure and a table, or a note that nothing was measured.

    Raises:
        DataError: The folder has no readable table `bench_selectivity`.
    """
    rows = [_cleaned(row) for row in BENCH_SELECTIVITY.read(bench_file(folder))]
    table = _table(rows)
    points = pareto_points(rows)
    if table is None or not points:
        return Section("defences", "Defences", [Note("The bench holds no measured cell yet.", "missing")])
    best = [f"{point['defence']} under {point['attack']}" for point in points if point["pareto"]]
    figure = Figure(
        "pareto",
        "What a defence costs and what it saves",
        pareto_spec(rows),
        alt=f"Over-refusal against attack success. Beaten by no other defence in both: {', '.join(best) or 'none'}.",
        reading=(
            "Across: harmless prompts refused; up: harmful prompts answered, both as mean over languages, under the attacker"
            " of each class that succeeds most. Down and to the left is better. Pale: another defence is better in both under"
            " the same class of attackers. The table has the language each protects least."
        ),
        files=f"{clean(folder.absolute().name)}/figures/pareto.svg",
    )
    blocks: list[Block] = [figure, table]
    return Section("defences", "Defences", blocks)


def _cleaned(row: BenchSelectivityRow) -> BenchSelectivityRow:
    return {**row, "defence": clean(row["defence"]), "attack": clean(row["attack"]), "language": clean(row["language"])}


def _table(rows: list[BenchSelectivityRow]) -> Table | None:
    order = {attack: at for at, attack in enumerate(attack for attacks in CLASSES.values() for attack in attacks)}
    names = dict.fromkeys((row["defence"], row["attack"]) for row in rows)
    groups: list[Group] = [
        (defence, attack, [row for row in rows if (row["defence"], row["attack"]) == (defence, attack)])
        for defence, attack in sorted(names, key=lambda name: (name[0], order.get(name[1], len(order)), name[1]))
    ]
    return (
        TableOf(groups)
        .words("defence", lambda group: group[0])
        .words("attacker", lambda group: group[1])
        .cells("mean", lambda group: _mean(group, "attack_success"), "harmful prompts answered")
        .cells("worst language", lambda group: _worst(group, "attack_success"), "harmful prompts answered")
        .cells("mean", lambda group: _mean(group, "overrefusal"), "harmless prompts refused")
        .cells("worst language", lambda group: _worst(group, "overrefusal"), "harmless prompts refused")
        .cells("least", _least_selective, "selectivity, points")
        .counts("not judged", lambda group: sum(row["unscored"] for row in group[2]))
        .made("Every defence under every attacker: means over languages, and the language that fares worst")
    )


def _known(group: Group, name: str) -> dict[str, float]:
    values = {row["language"]: cast("Mapping[str, object]", row).get(name) for row in group[2]}
    return {language: value for language, value in values.items() if isinstance(value, float)}


def _mean(group: Group, name: str) -> Cell:
    average = mean(_known(group, name).values())
    return Cell(percent(average), value=average)


def _worst(group: Group, name: str) -> Cell:
    known = _known(group, name)
    if not known:
        return Cell("–")
    worst = max(known, key=known.__getitem__)
    return Cell(percent(known[worst]), note=language_name(worst), value=known[worst])


def _least_selective(group: Group) -> Cell:
    known = [row for row in group[2] if row["selectivity"] is not None]
    if not known:
        return Cell("–")
    row = min(known, key=lambda one: one["selectivity"] or 0.0)
    cell = points_cell(row["selectivity"], row["low"], row["high"])
    return Cell(cell.text, note=cell.note, more=language_name(row["language"]), value=cell.value)
