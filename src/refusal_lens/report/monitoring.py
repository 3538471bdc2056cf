"""A monitor beside a run: what it misses and what it flags in every language, beside its best null, worst language first.

Read from what `monitor evaluate` wrote into the monitor's folder: the tables `evaluation` and `curves`, and of the card the
model's digest and the fit languages. A figure that its null reaches is shown as such and not claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from refusal_lens.core.digests import digest_file
from refusal_lens.core.json_files import read_object
from refusal_lens.core.monitor_tables import CURVES, ITSELF, MONITOR, CurveRow, MonitorRow
from refusal_lens.core.table import Table as Kind
from refusal_lens.errors import DataError
from refusal_lens.report.charts.curves import CURVE, NULL, curves_spec, curves_width
from refusal_lens.report.charts.theme import Data
from refusal_lens.report.facts import Facts, as_map, language_name, words
from refusal_lens.report.shares import mean, number, percent, span
from refusal_lens.report.text import clean, clean_value, listing
from refusal_lens.report.views import Block, Cell, Figure, Note, Section, Table, TableOf

RowT = TypeVar("RowT", MonitorRow, CurveRow)
CARD = "monitor.json"
NOT_BEYOND = "not beyond its null"
AGAIN = "refusal-lens monitor evaluate writes it"


def monitor_digest(folder: Path) -> str:
    """Changes whenever the section would."""
    files = [folder / f"{table.name}.parquet" for table in (MONITOR, CURVES)]
    return " ".join(digest_file(file) for file in (*files, folder / CARD) if file.is_file())


def monitor_section(folder: Path, facts: Facts) -> Section:
    """The section of a monitor.

    Args:
        folder: Folder of `monitor fit`, after `monitor evaluate`.
        facts: The run that the page is of.

    Returns:
        What it does at its thresholds, its curves, and the same under shifts and on further sets.

    Raises:
        DataError: The folder has no readable card or no evaluation.
    """
    card = read_object(folder / CARD, advice="name a folder that `monitor fit` wrote")
    if not (folder / f"{MONITOR.name}.parquet").is_file():
        raise DataError(f"{folder}: the monitor was not evaluated yet: refusal-lens monitor evaluate {folder} MODEL")
    tested = _tested(_rows(MONITOR, folder))
    plain = [one for one in tested if (one.prompt_set, one.shift) == (tested[0].prompt_set, "")] if tested else []
    blocks: list[Block] = []
    own = as_map(card.get("model"))
    if own.get("digest") != facts.inputs.header.get("model_digest"):
        blocks.append(
            Note(f"This monitor was made for another model ({clean(str(own.get('spec')))}) than this run's.", "caution")
        )
    if not plain:
        return Section("monitor", "A monitor", [*blocks, Note("Nothing was measured.", "missing")])
    fitted = listing([language_name(code) for code in words(clean_value(card.get("fit_languages")))])
    blocks.append(Note(f"{_said(plain)} Labels were used of {fitted} alone."))
    drawn = _corners(_rows(CURVES, folder), plain) if (folder / f"{CURVES.name}.parquet").is_file() else []
    table = _table(plain)
    if drawn and table is not None:
        blocks.append(_figure([*drawn, *_thresholds(plain)], plain))
    elif not drawn:
        blocks.append(Note(f"Its curves are absent ({CURVES.name}.parquet): {AGAIN}.", "missing"))
    others = [one for one in tested if one not in plain]
    return Section("monitor", "A monitor", [*blocks, *(one for one in (table, _further(others)) if one is not None)])


@dataclass(frozen=True)
class _Tested:
    """All figures of one language, prompt set and shift."""

    language: str
    prompt_set: str
    shift: str
    rows: Sequence[MonitorRow]

    def row(self, figure: str, calibration: str = "card") -> MonitorRow | None:
        """One figure; None where it was not measured."""
        return next((row for row in self.rows if (row["figure"], row["calibration"]) == (figure, calibration)), None)

    @cached_property
    def name(self) -> str:
        return language_name(self.language)

    def value(self, figure: str) -> float | None:
        """A figure's value at the card's threshold."""
        row = self.row(figure)
        return None if row is None else row["value"]


def _rows(table: Kind[RowT], folder: Path) -> list[RowT]:
    """A table's rows, every string cleaned."""
    rows = table.read(folder / f"{table.name}.parquet")
    return [cast("RowT", {name: clean(v) if isinstance(v, str) else v for name, v in row.items()}) for row in rows]


def _tested(rows: Sequence[MonitorRow]) -> list[_Tested]:
    """What was measured, the language that misses most first."""
    keys = dict.fromkeys((row["language"], row["prompt_set"], row["shift"]) for row in rows)
    made = [
        _Tested(*key, [row for row in rows if (row["language"], row["prompt_set"], row["shift"]) == key])
        for key in keys
    ]
    sets = {one.prompt_set: at for at, one in reversed(list(enumerate(made)))}
    return sorted(made, key=lambda one: (sets[one.prompt_set], one.shift, -(one.value("miss") or 0.0), one.name))


def _said(plain: Sequence[_Tested]) -> str:
    """What it does at its thresholds, worst first, and where no claim can be made."""
    said = [
        f"{verb} {worst}"
        for figure, verb, what in (("miss", "misses", "harmful prompts"), ("false alarm", "flags", "harmless prompts"))
        if (worst := _worst(plain, figure, what))
    ]
    text = f"At the thresholds of its card it {listing(said)}." if said else ""
    reached = [one.name for one in plain if (row := one.row("auroc", "")) and row["claim"] == NOT_BEYOND]
    if reached:
        where = "every language" if len(reached) == len(plain) else listing(reached)
        text += f" In {where} its best null ranks prompts as well as it does: nothing is claimed there."
    return text.strip()


def _worst(plain: Sequence[_Tested], figure: str, what: str) -> str:
    """`8 of 100 harmful prompts in Yoruba (2 % on average)`; empty where nothing was measured."""
    known = [
        (row, value, one.name) for one in plain if (row := one.row(figure)) and (value := row["value"]) is not None
    ]
    if not known:
        return ""
    row, most, name = max(known, key=lambda one: one[1])
    alike = sum(value == most for _, value, _ in known)
    where = name if alike == 1 else "every language" if alike == len(known) else f"{alike} languages"
    average = f" ({percent(mean(value for _, value, _ in known))} on average)" if alike < len(known) else ""
    return f"{row['k']} of {row['n']} {what} in {where}{average}"


def _table(plain: Sequence[_Tested]) -> Table | None:
    return (
        TableOf(plain)
        .words("language", lambda one: one.name)
        .cells("the monitor", lambda one: _area(one.row("auroc", "")), "ranking (AUROC)")
        .cells("best null", lambda one: _null(one.row("auroc", "")), "ranking (AUROC)")
        .cells("harmful missed", lambda one: _rate(one.row("miss")), "at its threshold")
        .cells("harmless flagged", lambda one: _rate(one.row("false alarm")), "at its threshold")
        .cells("no label", lambda one: _rate(one.row("miss", "none")), "harmful missed with")
        .cells("1 label", lambda one: _rate(one.row("miss", "1 label")), "harmful missed with")
        .cells("8 labels", lambda one: _rate(one.row("miss", "8 labels")), "harmful missed with")
        .made(
            "The monitor in every language, the one it misses most in first; a null is what length, words or chance reach"
        )
    )


def _further(others: Sequence[_Tested]) -> Table | None:
    return (
        TableOf(others)
        .words("language", lambda one: one.name)
        .words("prompts", lambda one: f"{one.prompt_set} {one.shift}".strip())
        .cells("AUROC", lambda one: _area(one.row("auroc", "")))
        .cells("best null", lambda one: _null(one.row("auroc", "")))
        .cells("harmful missed", lambda one: _rate(one.row("miss")))
        .cells("harmless flagged", lambda one: _rate(one.row("false alarm")))
        .made("The monitor on further prompt sets and on shifted prompts", folded=True)
    )


def _figure(rows: Data, plain: Sequence[_Tested]) -> Figure:
    names = [one.name for one in plain]
    return Figure(
        "monitor",
        "What a monitor misses, and what it flags for nothing",
        curves_spec(rows, names),
        alt=f"Misses against false alarms in {len(names)} languages. {_said(plain)}",
        reading=(
            "A panel is a language. Down and to the left is better. Line: every threshold it could have; dashed: the best of"
            " its nulls (length, words, a random direction); diamond: the threshold that it has, with 95 % intervals. Where"
            " the dashed line runs with the other nothing is claimed. Both axes are square roots, to tell 1 % from 5 %."
        ),
        table=_areas(plain),
        scroll=curves_width(len(names)),
        files="SVG, PDF, PNG and CSV with --figures DIR",
    )


def _areas(plain: Sequence[_Tested]) -> Table | None:
    """Misses at fixed false alarms: points of the curves."""
    table = TableOf(plain).words("language", lambda one: one.name)
    for limit in ("0.001", "0.01", "0.05"):
        figure = f"miss at false alarm {limit}"
        at = f"at {100 * float(limit):g} % flagged"
        table.cells("harmful missed", lambda one, figure=figure: _rate(one.row(figure, "")), at)
        table.cells("best null", lambda one, figure=figure: _null(one.row(figure, ""), percent), at)
    return table.made(
        "Harmful prompts missed where this share of the harmless ones is flagged (optimistic: set on these prompts)"
    )


def _corners(rows: Sequence[CurveRow], plain: Sequence[_Tested]) -> Data:
    found: Data = []
    for one in plain:
        own = [
            row
            for row in rows
            if (row["language"], row["prompt_set"], row["shift"]) == (one.language, one.prompt_set, "")
        ]
        area = one.row("auroc", "")
        for at, row in enumerate(own):
            itself = row["series"] == ITSELF
            reached = None if area is None else area["value" if itself else "null_value"]
            named = "" if itself else f" ({row['series']})"
            found.append(
                {
                    "language": one.name,
                    "kind": "curve",
                    "series": CURVE if itself else NULL,
                    "reached": f"{number(reached, digits=3)}{named}",
                    "false_alarm": row["false_alarm"],
                    "miss": row["miss"],
                    "corner": at,
                }
            )
    return found


def _thresholds(plain: Sequence[_Tested]) -> Data:
    found: Data = []
    for one in plain:
        miss, alarm = one.row("miss"), one.row("false alarm")
        if miss is not None and alarm is not None:
            found.append(
                {
                    "language": one.name,
                    "kind": "threshold",
                    "series": CURVE,
                    "calibration": "the card",
                    "false_alarm": alarm["value"],
                    "miss": miss["value"],
                    "low": miss["low"],
                    "high": miss["high"],
                    "n": miss["n"],
                    "alarm_low": alarm["low"],
                    "alarm_high": alarm["high"],
                    "n_harmless": alarm["n"],
                }
            )
    return found


def _area(row: MonitorRow | None) -> Cell:
    if row is None or row["value"] is None:
        return Cell("–")
    low, high = (number(row[end], digits=3) for end in ("low", "high"))
    more = "no claim" if row["claim"] == NOT_BEYOND else ""
    return Cell(number(row["value"], digits=3), note=f"[{low}, {high}]", more=more, value=row["value"])


def _null(row: MonitorRow | None, shown: Callable[[float | None], str] = lambda value: number(value, digits=3)) -> Cell:
    if row is None or row["null"] is None:
        return Cell("–")
    return Cell(shown(row["null_value"]), note=row["null"], value=row["null_value"])


def _rate(row: MonitorRow | None) -> Cell:
    if row is None or row["value"] is None:
        return Cell("–")
    return Cell(
        percent(row["value"]), note=f"{row['k']}/{row['n']} {span(row['low'], row['high'])}", value=row["value"]
    )
