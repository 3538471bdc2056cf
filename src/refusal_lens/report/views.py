"""What the page template receives: figures, tables and notes as plain frozen records; no HTML in any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from refusal_lens.report.shares import NullShare, Share, interval, percent
from refusal_lens.types import JsonValue


@dataclass(frozen=True)
class Cell:
    """A table cell.

    Attributes:
        text: What it says.
        note: Smaller second line.
        more: Smaller third line.
        tone: Colour role: a series name, `quiet`, `warn`, or empty.
        at: Position of a dot on a 0-1 track, if the cell draws one.
        low: Lower end of the interval on that track.
        high: Upper end.
    """

    text: str
    note: str = ""
    more: str = ""
    tone: str = ""
    at: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Column:
    """A table column: its label, the group it stands under, and whether it holds numbers."""

    label: str
    group: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its header."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    wide: bool = False

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Column groups with their spans, in order; empty when no column has one."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found if any(name for name, _ in found) else []


@dataclass(frozen=True)
class Figure:
    """A chart with everything that makes it readable without seeing it.

    Attributes:
        name: File stem in `figures/`, and id on the page.
        title: What it shows.
        spec: Vega-Lite specification.
        alt: What it says, in words.
        reading: How to read it.
        table: The same numbers as a table.
        scroll: Smallest width in pixels before the figure scrolls on its own.
    """

    name: str
    title: str
    spec: Mapping[str, JsonValue]
    alt: str
    reading: str
    table: Table | None = None
    scroll: int = 0


@dataclass(frozen=True)
class Note:
    """A paragraph. Tone: `plain`, `caution`, `missing`."""

    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Pairs:
    """A list of names and values."""

    items: Sequence[tuple[str, str]]


Block: TypeAlias = Figure | Table | Note | Pairs


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple[Block, ...])


def share_cell(share: Share | None, tone: str) -> Cell:
    """A share as a cell: percent, k/n with interval, a dot on its track."""
    if share is None:
        return Cell("not run", tone="quiet")
    if share.rate is None:
        return Cell("not judged", note=f"0 of {share.unscored} judged" if share.unscored else "no answers", tone="warn")
    return Cell(
        percent(share.rate),
        note=f"{share.k}/{share.n} {interval(share)}",
        more=f"{share.unscored} unscored" if share.unscored else "",
        tone=tone,
        at=share.rate,
        low=share.low,
        high=share.high,
    )


def null_cell(null: NullShare | None) -> Cell:
    """A random null as a cell: the mean, and the range over its directions."""
    if null is None or null.mean is None:
        return Cell("not run", tone="quiet")
    low, high = min(null.rates), max(null.rates)
    spread = percent(low) if percent(low) == percent(high) else f"{percent(low)} to {percent(high)}"
    count = f"{len(null.rates)} directions" if len(null.rates) > 1 else "1 direction"
    return Cell(percent(null.mean), note=spread, more=count, tone="random", at=null.mean, low=low, high=high)
