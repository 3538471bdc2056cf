"""A kind of table: from a row's type to Arrow schema, Parquet and CSV files, and documentation. The types are in `tables`.

A row is a `TypedDict`: a plain dict at run time, its keys checked by the type checker, written to Parquet without a
copy. A column is a key with its type and one line on what it holds; `| None` marks a column that may be null. Nothing is
inferred from data: an empty table has the same columns as a full one, and a row with a key too many or too few is an
error, not a silent gap.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Generic, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from refusal_lens.errors import DataError

Value: TypeAlias = str | int | float | bool | None
Fields: TypeAlias = Mapping[str, object]
"""A row of any table, or a plain mapping with at least the columns that its reader reads."""
RowT = TypeVar("RowT")
_ARROW: Mapping[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


@dataclass(frozen=True)
class Column:
    """One column of a table: its name, Python type, whether it may be null, and what it holds."""

    name: str
    type: type
    nullable: bool
    doc: str


@dataclass(frozen=True)
class Table(Generic[RowT]):
    """A kind of table.

    Attributes:
        name: Stem of its files.
        row: The type of its rows.
        final: Whether it is published in `RUN/tables` (with a CSV copy) or stays among a task's outputs.
    """

    name: str
    row: type[RowT]
    final: bool = True

    @cached_property
    def described(self) -> tuple[Column, ...]:
        """The columns in order, with their documentation."""
        hints = get_type_hints(self.row, include_extras=True)
        return tuple(_column(name, hint) for name, hint in hints.items())

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in order."""
        return tuple(column.name for column in self.described)

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of its files."""
        return pa.schema([(column.name, _ARROW[column.type]) for column in self.described])

    def write(self, folder: Path, rows: Sequence[RowT], *, name: str | None = None) -> None:
        """Write rows as Parquet, and as CSV beside it where the table is final; the same rows give the same bytes.

        Args:
            folder: Existing folder.
            rows: The rows, in order.
            name: File stem; the table's name unless given.

        Raises:
            ValueError: A row lacks a column or has one that the table does not know.
        """
        wanted = set(self.columns)
        plain = cast("Sequence[Mapping[str, Value]]", rows)
        for row in plain:
            if set(row) != wanted:
                raise ValueError(
                    f"table {self.name}: missing {sorted(wanted - row.keys())}, unknown {sorted(row.keys() - wanted)}"
                )
        table = pa.Table.from_pylist(list(plain), schema=self.schema)
        stem = name or self.name
        pq.write_table(table, folder / f"{stem}.parquet", compression="zstd")
        if self.final:
            pa_csv.write_csv(table, folder / f"{stem}.csv")

    def read(self, file: Path) -> list[RowT]:
        """All rows of a file, in order; columns that an older file lacks are null.

        Args:
            file: A Parquet file of this table, of this version or an older one.

        Returns:
            The rows.

        Raises:
            DataError: The file cannot be read, or a column that may not be null is absent.
        """
        try:
            found = pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file}: not a readable table ({str(error).splitlines()[0]})") from None
        absent = [column.name for column in self.described if column.name not in found.column_names]
        needed = [column.name for column in self.described if column.name in absent and not column.nullable]
        if needed:
            raise DataError(f"{file}: no column {', '.join(needed)}; is it a table {self.name!r}?")
        rows = found.select([name for name in self.columns if name not in absent]).to_pylist()
        filling = dict.fromkeys(absent)
        return cast("list[RowT]", [{**row, **filling} for row in rows] if absent else rows)


def _column(name: str, hint: object) -> Column:
    doc = ""
    if get_origin(hint) is Annotated:
        hint, doc = get_args(hint)
    parts = [hint]
    if get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not types.NoneType]
    kind = parts[0]
    if isinstance(kind, type) and kind in _ARROW:
        return Column(name, kind, len(parts) != len(get_args(hint) or (hint,)), str(doc))
    raise TypeError(f"column {name}: {hint!r} is no column type")
