"""What the report reads: one run directory; every table may be absent, unreadable, of an older version, or empty.

Steps: open the run, read each final table and JSON summary that is there, check every row against the table's type, clean
every string, and note what is absent, unreadable or dropped so that the page can say it. What comes out is typed: a column
that may not be null is not null. Nothing is computed here, no model and no chart library is loaded; `is_current` tells
cheaply whether a page on disk still shows exactly this.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from refusal_lens.core.files import write_atomic
from refusal_lens.core.table import Column, Table
from refusal_lens.core.tables import TABLES as KNOWN
from refusal_lens.report.text import clean, clean_value, listing
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue

RowT = TypeVar("RowT")
PUBLIC = 0o644
MARK = "refusal-lens-state"
ASSETS = ("page.html.j2", "page.css", "page.js")
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
UNSAID = ("thoughts", "agreement")
"""Tables read too that finished runs of earlier versions, or of one judge, lack: nothing is to finish, and nothing is said."""


@dataclass(frozen=True)
class RunInputs:
    """A run as the report sees it.

    Attributes:
        root: The run directory.
        header: Content of `run.json`, cleaned.
        tables: Checked rows by table name; an absent or unreadable table has no entry.
        summaries: `verdict` and `geometry`, where present.
        problems: One line for everything that is there but cannot be read or was dropped.
        digest: Changes whenever anything shown could change.
    """

    root: Path
    header: Mapping[str, JsonValue]
    tables: Mapping[str, Sequence[Mapping[str, object]]]
    summaries: Mapping[str, JsonValue]
    problems: tuple[str, ...]
    digest: str

    def rows(self, table: Table[RowT]) -> Sequence[RowT]:
        """Rows of a table; none when the run has no such table."""
        return cast("Sequence[RowT]", self.tables.get(table.name, ()))

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
    tables: dict[str, Sequence[Mapping[str, object]]] = {}
    summaries: dict[str, JsonValue] = {}
    problems: list[str] = []
    digest = hashlib.sha256(json.dumps(dict(run.header), sort_keys=True).encode())
    for file in [*(f"{name}.parquet" for name in (*TABLES, *UNSAID)), "verdict.json", "geometry.json"]:
        name = Path(file).stem
        try:
            data = (run.tables_dir / file).read_bytes()
            if file.endswith(".json"):
                summaries[name] = clean_value(json.loads(data))
            else:
                tables[name], lost = _rows(KNOWN[name], pq.read_table(io.BytesIO(data)))
                problems += [f"tables/{file}: {problem}" for problem in lost]
        except FileNotFoundError:
            continue
        except (OSError, pa.ArrowException, ValueError, RecursionError) as error:
            problems.append(f"tables/{file} cannot be read ({type(error).__name__})")
            continue
        digest.update(name.encode() + data)
    header = cast("dict[str, JsonValue]", clean_value(dict(run.header)))
    return RunInputs(run.root, header, tables, summaries, tuple(problems), digest.hexdigest())


def write_missing_csv(run_dir: Path) -> None:
    """Write a CSV beside every Parquet table of a run that has none."""
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


def is_current(run_dir: Path, *, reveal: bool = False) -> bool:
    """Whether `RUN/report.html` already shows exactly this run.

    Args:
        run_dir: The run.
        reveal: Whether completion texts are asked for.

    Returns:
        True when building again would change nothing.
    """
    run = RunDir.open(run_dir)
    if not run.report_is_intact():
        return False
    try:
        with run.report_path.open("rb") as stream:
            head = stream.read(4096)
    except OSError:
        return False
    return f'name="{MARK}" content="{state_of(read_inputs(run_dir), reveal=reveal)}"'.encode() in head


def state_of(inputs: RunInputs, *, reveal: bool, beside: Sequence[str] = ()) -> str:
    """Digest of the run's tables, the page's own files, the version, and what else is shown: texts, the paper, other folders."""
    own = "".join(digest(asset(name)) for name in ASSETS)
    shown = " ".join([str(reveal), *beside])
    return hashlib.sha256(f"{inputs.digest} {version('refusal-lens')} {own} {shown}".encode()).hexdigest()


def digest(script: str) -> str:
    """SHA-256 of a text in the form that a content security policy takes."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def asset(name: str) -> str:
    """One of the page's own files."""
    return files("refusal_lens.report").joinpath("assets", name).read_text(encoding="utf-8")


def _rows(table: Table[Any], found: pa.Table) -> tuple[list[Mapping[str, object]], list[str]]:
    """The rows that are of the table's type, and one line for what is wrong with the file."""
    needed = [column.name for column in table.described if not column.nullable]
    lacking = [name for name in needed if name not in found.column_names] if found.num_columns else []
    rows: list[Mapping[str, object]] = []
    for raw in found.to_pylist():
        row = {column.name: _value(raw.get(column.name), column) for column in table.described}
        row |= {column.name: column.type() for column in table.described if column.name in lacking}
        if all(row[name] is not None for name in needed):
            rows.append(row)
    problems = [f"no column {listing(lacking)} (an older run?), shown as empty or 0"] if lacking else []
    if dropped := found.num_rows - len(rows):
        problems.append(f"{dropped} of {found.num_rows} rows lack a value that may not be absent, and are not shown")
    return rows, problems


def _value(value: object, column: Column) -> object:
    """A cell of the column's type, strings cleaned; None for anything else, NaN and infinities included."""
    if isinstance(value, float) and column.type is int and value.is_integer():
        return int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and column.type is float:
        return float(value) if math.isfinite(value) else None
    if type(value) is not column.type:
        return None
    return clean(value) if isinstance(value, str) else value
