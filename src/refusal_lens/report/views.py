"""What the page template receives, as plain frozen records without HTML; and how rows become a table.

Every table is made by `TableOf`, column by column. A cell that stands for a number carries it, so that the page can sort by
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from refusal_lens.report.shares import NullShare, Share, interval, number, percent, points, signed, span
from refusal_lens.types import JsonValue

RowT = TypeVar("RowT")
NOTHING = ("–", "")


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
        value: The number it stands for, to sort by.
    """

    text: str
    note: str = ""
    more: str = ""
    tone: str = ""
    at: float | None = None
    low: float | None = None
    high: float | None = None
    value: float | None = None


@dataclass(frozen=True)
class Column:
    """A table column: its label, the group it stands under, and whether it holds numbers."""

    label: str
    group: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its header. `folded` tables start closed."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    wide: bool = False
    folded: bool = False

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
        files: Where the same chart lies as files; empty for `figures/` of the run.
    """

    name: str
    title: str
    spec: Mapping[str, JsonValue]
    alt: str
    reading: str
    table: Table | None = None
    scroll: int = 0
    files: str = ""


@dataclass(frozen=True)
class Note:
    """A paragraph. Tone: `plain`, `caution`, `missing`."""

    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Pairs:
    """A list of names and values; `folded` lists start closed under their title."""

    items: Sequence[tuple[str, str]]
    folded: str = ""


Block: TypeAlias = Figure | Table | Note | Pairs


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple[Block, ...])


class TableOf(Generic[RowT]):
    """A table in the making: rows, and column by column what a row shows. Each call adds a column on the right."""

    def __init__(self, rows: Iterable[RowT]) -> None:
        self._rows = list(rows)
        self._columns: list[Column] = []
        self._shows: list[Callable[[RowT], Cell | str]] = []

    def words(self, label: str, show: Callable[[RowT], Cell | str]) -> TableOf[RowT]:
        """A column of words."""
        return self._add(Column(label), show)

    def cells(self, label: str, show: Callable[[RowT], Cell], group: str = "") -> TableOf[RowT]:
        """A column of cells that stand for numbers."""
        return self._add(Column(label, group, numeric=True), show)

    def numbers(
        self, label: str, show: Callable[[RowT], float | None], group: str = "", *, digits: int = 2
    ) -> TableOf[RowT]:
        """A column of numbers with this many decimals."""
        return self.cells(label, lambda row: number_cell(show(row), digits=digits), group)

    def counts(self, label: str, show: Callable[[RowT], int | None], group: str = "") -> TableOf[RowT]:
        """A column of whole numbers."""
        return self.cells(label, lambda row: count_cell(show(row)), group)

    def shares(self, label: str, show: Callable[[RowT], float | None], group: str = "") -> TableOf[RowT]:
        """A column of shares in percent."""
        return self.cells(label, lambda row: percent_cell(show(row)), group)

    def made(self, caption: str, *, wide: bool = False, folded: bool = False) -> Table | None:
        """The table; None without rows. Columns in which no row shows anything are left out, the first never."""
        lines = [
            [Cell(one) if isinstance(one := show(row), str) else one for show in self._shows] for row in self._rows
        ]
        if not lines:
            return None
        width = range(len(self._columns))
        kept = [place for place in width if not place or any(line[place].text not in NOTHING for line in lines)]
        rows = [[line[place] for place in kept] for line in lines]
        return Table(caption, [self._columns[place] for place in kept], rows, wide, folded)

    def _add(self, column: Column, show: Callable[[RowT], Cell | str]) -> TableOf[RowT]:
        self._columns.append(column)
        self._shows.append(show)
        return self


def number_cell(value: float | None, *, digits: int = 2, sign: bool = False) -> Cell:
    """A number, with its sign where it is a change."""
    return Cell((signed if sign else number)(value, digits=digits), value=value)


def count_cell(value: int | None) -> Cell:
    """A whole number."""
    return Cell("–") if value is None else Cell(str(value).replace("-", "−"), value=float(value))


def percent_cell(value: float | None) -> Cell:
    """A share in percent."""
    return Cell(percent(value), value=value)


def points_cell(value: float | None, low: float | None = None, high: float | None = None, *, tone: str = "") -> Cell:
    """A difference in percentage points with its interval, without a sign where it is no change."""
    return Cell(points(value), note=span(low, high), tone=tone, value=value)


def share_cell(share: Share | None, tone: str) -> Cell:
    """A share as a cell: percent, k/n with interval, what stands in doubt beside it, a dot on its track."""
    if share is None:
        return Cell("not run", tone="quiet")
    if share.rate is None:
        return Cell("not judged", note=f"0 of {share.unscored} judged" if share.unscored else "no answers", tone="warn")
    return Cell(
        percent(share.rate),
        note=f"{share.k}/{share.n} {interval(share)}",
        more=share.doubts,
        tone=tone,
        at=share.rate,
        low=share.low,
        high=share.high,
        value=share.rate,
    )


def null_cell(null: NullShare | None) -> Cell:
    """A random null as a cell: the mean, and the range over its directions."""
    if null is None or null.mean is None:
        return Cell("not run", tone="quiet")
    low, high = min(null.rates), max(null.rates)
    spread = percent(low) if percent(low) == percent(high) else f"{percent(low)} to {percent(high)}"
    count = f"{len(null.rates)} directions" if len(null.rates) > 1 else "1 direction"
    return Cell(
        percent(null.mean), note=spread, more=count, tone="random", at=null.mean, low=low, high=high, value=null.mean
    )
