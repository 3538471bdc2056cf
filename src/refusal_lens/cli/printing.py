"""How commands print tables: CSV and JSON for programs, every row for the curious, and a view for people.

The view for people is a grid of languages by conditions in per cent, worst language first, with random directions as
their mean. No number is ever cut: where the output is no terminal, lines are as wide as they must be. Every text that comes
from a run directory is escaped before it reaches a terminal.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Annotated, TypeAlias, cast

import typer

from refusal_lens.cli.plain import plain
from refusal_lens.core.interventions import declared
from refusal_lens.core.names import ALPHA, DISAGREE, is_null, is_pool

Row: TypeAlias = Mapping[str, object]
SHOWN_SOURCES = 1
"""More sources than this are shown as the usual one, the language's own and the mean of the others."""
MANY_UNSCORED = 0.1
UNTOUCHED = ("baseline", "harmful")
TITLES = {"harmful": "harmful prompts ANSWERED, per cent", "harmless": "harmless prompts REFUSED, per cent"}
UNLIMITED = 10_000
"""Columns a line may have where nobody's terminal would break it."""


class Format(StrEnum):
    """How a table is printed."""

    table = "table"
    csv = "csv"
    json = "json"


class SummaryFormat(StrEnum):
    """How a summary is printed."""

    table = "table"
    json = "json"


All = Annotated[bool, typer.Option("--all", help="every row and column instead of the summary for people")]


def print_rows(rows: Sequence[Row], columns: Sequence[str], how: Format) -> None:
    """Print rows in full: CSV and JSON hold nothing else, a table shows every number whole.

    Args:
        rows: The rows.
        columns: Their columns, in order.
        how: The format.
    """
    if how is Format.json:
        typer.echo(json.dumps([dict(row) for row in rows], ensure_ascii=False, indent=1))
    elif how is Format.csv:
        writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        print_table(columns, [[readable(row[name]) for name in columns] for row in rows])


def print_table(columns: Sequence[str], lines: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print lines of text under their columns; numbers stand to the right.

    Args:
        columns: Headers.
        lines: One text a column.
        title: A line above.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if title:
        typer.echo(plain(title, one_line=True))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        numeric = bool(lines) and all(_is_number(line[place]) for line in lines)
        table.add_column(Text(plain(name)), justify="right" if numeric else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(plain(cell, one_line=True)) for cell in line))
    width = None if sys.stdout.isatty() else UNLIMITED
    Console(width=width).print(table)


def readable(value: object) -> str:
    """A value as people read it; small numbers keep their digits (a p-value of 6e-08 is not 0.000)."""
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Condition:
    """One column of a grid: what was done to the model, and which share is shown.

    Attributes:
        label: Heading.
        intervention: Its name in the tables.
        prompts: harmful (share answered is shown) or harmless (share refused is shown).
        source: Whose direction: a language, `own` (the target's), `others` (mean of the others), `random` (mean of the nulls).
    """

    label: str
    intervention: str
    prompts: str
    source: str = ""


def print_rates_grid(rows: Sequence[Row]) -> None:
    """Print rates for people: a line a language, worst first, in per cent.

    Args:
        rows: Rows of the table `rates` of one prompt set.
    """
    found = {
        (str(row["intervention"]), str(row["source"]), str(row["language"]), str(row["prompts"])): row for row in rows
    }
    untouched = {language: _share(row) for (kind, _, language, harm), row in found.items() if (kind, harm) == UNTOUCHED}
    languages = dict.fromkeys(language for _, _, language, _ in found)
    order = sorted(languages, key=lambda language: -(untouched.get(language) or 0.0))
    for prompts, title in TITLES.items():
        columns = {
            condition.label: [_grid_cell(condition, language, found) for language in order]
            for condition in _conditions(found)
            if condition.prompts == prompts
        }
        filled = {label: cells for label, cells in columns.items() if any(cells)}
        if filled:
            print_table(["language", *filled], list(zip(order, *filled.values(), strict=True)), title=title)
    sizes = sorted({cast("int", row["n"]) + cast("int", row["unscored"]) for row in rows})
    counted = "no" if not sizes else str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    typer.echo(f"{counted} prompts a cell; * more than a tenth could not be judged; counts and 95 % intervals: --all")


def print_transfer_grid(rows: Sequence[Row]) -> None:
    """Print the transfer matrix for people: percentage points, most moved language first, stars where Holm's test agrees.

    Args:
        rows: Rows of the table `transfer`.
    """
    for intervention in dict.fromkeys(str(row["intervention"]) for row in rows):
        by_target: dict[str, dict[str, Row]] = {}
        for row in rows:
            if row["intervention"] == intervention:
                by_target.setdefault(str(row["target"]), {})[str(row["source"])] = row
        sources = dict.fromkeys(source for cells in by_target.values() for source in cells)
        named = [source for source in sources if not is_null(source)]
        order = sorted(by_target.items(), key=lambda item: -abs(_mean_points(item[1], named) or 0.0))
        lines = [
            [
                target,
                *(_points(cells.get(source)) for source in named),
                _rounded(_mean_points(cells, [source for source in sources if is_null(source)])),
            ]
            for target, cells in order
        ]
        title = f"{intervention}: change of the share answered in each language (points), by the direction's language"
        print_table(["language", *named, "random"], lines, title=title)
    if not rows:
        typer.echo("no transfer was measured: no direction was applied (`refusal-lens verdict` says why)")
        return
    typer.echo(
        "* p < 0.05 after Holm's correction; random: mean of the null directions; every number: --all or --format csv"
    )


def print_compare_grid(rows: Sequence[Row]) -> None:
    """Print a comparison for people: the untouched models, one column a run, the worst language first.

    Args:
        rows: Rows of `measure.compare_runs`, the reference's first.
    """
    runs = list(dict.fromkeys(str(row["run"]) for row in rows))
    several = len({row["prompt_set"] for row in rows}) > 1
    for prompts, title in TITLES.items():
        by_place: dict[str, dict[str, Row]] = {}
        for row in rows:
            if row["intervention"] == "baseline" and row["prompts"] == prompts:
                place = f"{row['language']} ({row['prompt_set']})" if several else str(row["language"])
                by_place.setdefault(place, {})[str(row["run"])] = row
        order = sorted(by_place.items(), key=lambda item: -max(_share(row) or 0.0 for row in item[1].values()))
        lines = [[place, *(_percent(cells.get(run)) for run in runs)] for place, cells in order]
        if lines:
            print_table(["language", *runs], lines, title=title)
    typer.echo("* differs from the first run, p < 0.05 after Holm's correction; every number: --all or --format csv")


def _share(row: Row | None) -> float | None:
    """The share a grid shows: harmful prompts answered, harmless prompts refused."""
    rate = None if row is None else cast("float | None", row["rate"])
    if row is None or rate is None:
        return None
    return rate if row["prompts"] == "harmful" else 1 - rate


def _percent(row: Row | None) -> str:
    share = _share(row)
    return "" if row is None or share is None else f"{100 * share:.0f}{_star(row)}"


def _points(row: Row | None) -> str:
    difference = None if row is None else cast("float | None", row["difference"])
    if row is not None and row.get("judges") == DISAGREE:
        return DISAGREE
    return "" if row is None or difference is None else f"{100 * difference:+.0f}{_star(row)}"


def _mean_points(cells: Mapping[str, Row], sources: Sequence[str]) -> float | None:
    found = [cells[source]["difference"] for source in sources if source in cells]
    known = [cast("float", value) for value in found if value is not None]
    return 100 * fmean(known) if known else None


def _rounded(points: float | None) -> str:
    return "" if points is None else f"{points:+.0f}"


def _star(row: Row) -> str:
    p_holm = cast("float | None", row["p_holm"])
    return "*" if p_holm is not None and p_holm < ALPHA and row.get("judges") != DISAGREE else ""


def _grid_cell(condition: Condition, language: str, found: Mapping[tuple[str, str, str, str], Row]) -> str:
    """A condition's share in one language: of one direction, or the mean over several."""
    keys = [
        (condition.intervention, source, language, condition.prompts)
        for source in _sources_of(condition, language, found)
    ]
    measured = [found[key] for key in keys if key in found]
    if not measured:
        return ""
    shares = [share for row in measured if (share := _share(row)) is not None]
    unscored = sum(cast("int", row["unscored"]) for row in measured)
    asked = unscored + sum(cast("int", row["n"]) for row in measured)
    mark = "*" if unscored > MANY_UNSCORED * asked else ""
    return f"{100 * fmean(shares):.0f}{mark}" if shares else f"-{mark}"


def _sources_of(condition: Condition, language: str, found: Mapping[tuple[str, str, str, str], Row]) -> list[str]:
    every = list(dict.fromkeys(source for intervention, source, *_ in found if intervention == condition.intervention))
    if condition.source == "random":
        return [source for source in every if is_null(source)]
    if condition.source == "own":
        return [language]
    if condition.source == "others":
        return [source for source in every if not is_null(source) and not is_pool(source) and source != language]
    return [condition.source]


def _conditions(found: Mapping[tuple[str, str, str, str], Row]) -> list[Condition]:
    """The columns of a grid: every source while there are few, else English (or the first), own and the others' mean."""
    made = [Condition("untouched", "baseline", "harmful"), Condition("untouched", "baseline", "harmless")]
    for intervention in dict.fromkeys(intervention for intervention, *_ in found if intervention != "baseline"):
        sources = [
            source
            for source in dict.fromkeys(source for name, source, *_ in found if name == intervention)
            if not is_null(source) and not is_pool(source)
        ]
        chosen = sources
        if len(sources) > SHOWN_SOURCES:
            chosen = ["en" if "en" in sources else sources[0], "own", "others"]
        every = ("harmful", "harmless")
        for prompts in every if len(sources) <= SHOWN_SOURCES else (declared(intervention).reads_on,):
            made += [Condition(f"{intervention}\n{source}", intervention, prompts, source) for source in chosen]
            made.append(Condition(f"{intervention}\nrandom", intervention, prompts, "random"))
    return made


def _is_number(text: str) -> bool:
    return not text or text.rstrip("*").lstrip("+-").replace(".", "", 1).replace("e-", "", 1).isdigit() or text == "-"
