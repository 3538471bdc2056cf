"""Rates once more from the verdicts they came from, compared with the published table.

The verdicts are those of the tasks that the rates' own record names as inputs, so a table cannot be vouched for by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.measure import rate_rows
from refusal_lens.rundir import published

if TYPE_CHECKING:
    from refusal_lens.rundir import RunDir

_Row: TypeAlias = Mapping[str, object]

RATES = "rates.parquet"
_KEY = ("intervention", "source", "language", "prompts", "prompt_set")
_COUNTS = ("k", "n", "unscored")
_REALS = ("rate", "low", "high")
_TOLERANCE = 1e-12


def rederive_rates(run: RunDir) -> list[str]:
    """Compare the published rates with rates computed from the verdicts.

    Args:
        run: The run.

    Returns:
        One line per row that is off; empty when all agree or nothing is published yet.
    """
    entry = published(run.root).get(RATES)
    if entry is None:
        return []
    record = run.record(entry.task)
    table = run.tables_dir / RATES
    if record is None or not table.is_file():
        return []  # the chain already says so
    try:
        verdicts = [row for task_id in record.inputs for row in _verdicts(run, task_id)]
        shown = _by_key(pq.read_table(table).to_pylist())
        derived = _by_key(rate_rows(verdicts))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        return [f"tables/{RATES}: cannot be derived again ({error})"]
    found: list[str] = []
    for key in sorted({*shown, *derived}, key=str):
        name = " ".join(str(part) for part in key if part)
        if key not in derived:
            found.append(f"tables/{RATES}: {name}: no verdicts")
        elif key not in shown:
            found.append(f"tables/{RATES}: {name}: missing")
        else:
            found.extend(f"tables/{RATES}: {name}: {line}" for line in _differences(shown[key], derived[key]))
    return found


def _verdicts(run: RunDir, task_id: str) -> Iterable[_Row]:
    path = run.folder(task_id) / "verdicts.parquet"
    return pq.read_table(path).to_pylist() if path.is_file() else ()


def _by_key(rows: Iterable[_Row]) -> dict[tuple[object, ...], _Row]:
    return {tuple(row.get(name) for name in _KEY): row for row in rows}


def _differences(shown: _Row, derived: _Row) -> Iterable[str]:
    for name in (*_COUNTS, *_REALS):
        one, other = shown.get(name), derived.get(name)
        if one == other:
            continue
        if isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, abs_tol=_TOLERANCE):
            continue
        yield f"{name} is {one}, the verdicts say {other}"
