"""Typed tables on disk: rows in, Parquet (and CSV) out, byte-identical for identical rows.

A schema is a pyarrow schema; rows are mappings. Nothing is inferred: an empty table has the same columns as a full one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

Cell: TypeAlias = str | int | float | bool | None
Row: TypeAlias = Mapping[str, Cell]

TEXT, INTEGER, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def schema(**columns: pa.DataType) -> pa.Schema:
    """A schema with the given columns, in order."""
    return pa.schema(list(columns.items()))


def write_table(
    folder: Path, name: str, rows: Sequence[Mapping[str, object]], columns: pa.Schema, *, csv: bool = False
) -> None:
    """Write rows as `folder/name.parquet`, and as CSV beside it when asked.

    Args:
        folder: Existing folder.
        name: File stem.
        rows: Every key must be a column; a missing key is null.
        columns: The table's schema.
        csv: Also write `name.csv`.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=columns)
    pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    if csv:
        pa_csv.write_csv(table, folder / f"{name}.csv")


def read_rows(path: Path) -> list[dict[str, Cell]]:
    """All rows of a Parquet table, in file order."""
    return pq.read_table(path).to_pylist()
