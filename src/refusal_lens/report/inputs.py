"""What the report reads: one run directory, through `rundir`; every table may be absent, short of columns, or empty.

Steps: open the run, read each final table (Parquet) and JSON summary that is there, clean every string, note what is
absent or unreadable so that the page can say it. Nothing is computed here and no model is loaded.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from refusal_lens.core.files import write_atomic
from refusal_lens.report.text import clean, clean_value
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue

Value: TypeAlias = str | int | float | bool | None
Row: TypeAlias = Mapping[str, Value]
Rows: TypeAlias = Sequence[Row]

PUBLIC = 0o644
TABLES = {
    "rates": "compliance rates with intervals",
    "candidates": "scores of every candidate direction",
    "selection": "which candidate was selected, and why",
    "refusal_tokens": "discovered refusal tokens",
    "filtering": "prompts kept and dropped before extraction",
    "missing": "cells the prompt set lacks",
    "unscored": "answers that could not be judged, by reason",
    "transfer": "source by target effects with paired tests",
    "content": "on-topic and hollow answers",
    "damage": "KL divergence and cross-entropy before and after",
    "cosines": "cosines between languages' directions",
    "projection": "two-dimensional projection of activations",
    "separation": "separation of harmful from harmless prompts",
    "selectivity": "refusal of harmful less refusal of harmless prompts",
    "sharing": "shared and private part of every language's direction",
    "two_directions": "harmfulness and refusal read at two places",
}


@dataclass(frozen=True)
class RunInputs:
    """A run as the report sees it.

    Attributes:
        root: The run directory.
        header: Content of `run.json`, cleaned.
        tables: Rows by table name; an absent or unreadable table has no entry.
        summaries: `verdict` and `geometry`, where present.
        problems: One line for every file that is there but cannot be read.
        digest: Changes whenever anything shown could change.
    """

    root: Path
    header: Mapping[str, JsonValue]
    tables: Mapping[str, Rows]
    summaries: Mapping[str, JsonValue]
    problems: tuple[str, ...]
    digest: str

    def rows(self, table: str) -> Rows:
        """Rows of a table; none when the run has no such table."""
        return self.tables.get(table, ())

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the tables this run does not have (yet)."""
        return tuple(name for name in TABLES if name not in self.tables)


def read_inputs(run_dir: Path) -> RunInputs:
    """Read a run directory.

    Args:
        run_dir: The run, finished or not.

    Returns:
        Whatever of it is readable.

    Raises:
        RunError: There is no run in the folder.
    """
    run = RunDir.open(run_dir)
    tables: dict[str, Rows] = {}
    summaries: dict[str, JsonValue] = {}
    problems: list[str] = []
    digest = hashlib.sha256(json.dumps(dict(run.header), sort_keys=True).encode())
    for name in TABLES:
        file = run.tables_dir / f"{name}.parquet"
        try:
            data = file.read_bytes()
            tables[name] = [_clean_row(row) for row in pq.read_table(io.BytesIO(data)).to_pylist()]
        except FileNotFoundError:
            continue
        except (OSError, pa.ArrowException) as error:
            problems.append(f"tables/{name}.parquet cannot be read ({type(error).__name__})")
            continue
        digest.update(name.encode() + data)
    for name in ("verdict", "geometry"):
        file = run.tables_dir / f"{name}.json"
        try:
            data = file.read_bytes()
            summaries[name] = clean_value(json.loads(data))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"tables/{name}.json cannot be read ({type(error).__name__})")
            continue
        digest.update(name.encode() + data)
    header = clean_value(dict(run.header))
    assert isinstance(header, dict)
    return RunInputs(run.root, header, tables, summaries, tuple(problems), digest.hexdigest())


def write_missing_csv(run_dir: Path) -> list[Path]:
    """Write a CSV beside every Parquet table that has none.

    Args:
        run_dir: The run.

    Returns:
        The files written.
    """
    written: list[Path] = []
    for file in sorted(RunDir.open(run_dir).tables_dir.glob("*.parquet")):
        beside = file.with_suffix(".csv")
        if beside.exists():
            continue
        try:
            buffer = io.BytesIO()
            pa_csv.write_csv(pq.read_table(file), buffer)
        except (OSError, pa.ArrowException):
            continue
        write_atomic(beside, buffer.getvalue(), mode=PUBLIC)
        written.append(beside)
    return written


def text_of(row: Row, column: str, default: str = "") -> str:
    """A text cell; the default when the column is absent or null."""
    value = row.get(column)
    return default if value is None else str(value)


def real_of(row: Row, column: str) -> float | None:
    """A numeric cell as float; None when absent, null, not a number or not finite."""
    value = row.get(column)
    if value is None or isinstance(value, (str, bool)):
        return None
    number = float(value)
    return number if abs(number) < float("inf") else None


def count_of(row: Row, column: str) -> int:
    """A count; 0 when absent or null."""
    value = real_of(row, column)
    return 0 if value is None else int(value)


def _clean_row(row: Mapping[str, Value]) -> Row:
    return {name: clean(value) if isinstance(value, str) else value for name, value in row.items()}
