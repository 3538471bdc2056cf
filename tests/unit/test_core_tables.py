"""Tables are defined once: what a row type says is what the files hold."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refusal_lens.core.tables import RATES, TABLES, RateRow
from refusal_lens.errors import DataError


def _rate(**changes: object) -> RateRow:
    row = RateRow(
        intervention="baseline", source="", language="en", prompts="harmful", k=1, n=2, unscored=3, rate=0.5, low=None,
        high=1.0, prompt_set=None, truncated=1, uncertain=None, off_language=0, share_before=None, share_after=1e-8,
        corrected=None, corrected_low=None, corrected_high=None,
    )  # fmt: skip
    return row | changes  # type: ignore[return-value]


def test_rows_come_back_as_they_went_in(tmp_path: Path):
    rows = [_rate(), _rate(language="th", rate=None)]
    RATES.write(tmp_path, rows)
    assert RATES.read(tmp_path / "rates.parquet") == rows
    assert (tmp_path / "rates.csv").read_text().splitlines()[0] == ",".join(f'"{name}"' for name in RATES.columns)


def test_an_empty_table_has_the_columns_of_a_full_one(tmp_path: Path):
    for name, table in TABLES.items():
        table.write(tmp_path, [])
        assert pq.read_schema(tmp_path / f"{name}.parquet").equals(table.schema)


@pytest.mark.parametrize("change", [{"rat": 0.5}, None])
def test_a_misspelt_or_absent_column_is_an_error_and_not_a_gap(tmp_path: Path, change: dict[str, float] | None):
    row = dict(_rate(**(change or {})))
    if change is None:
        del row["rate"]
    with pytest.raises(ValueError, match="rat"):
        RATES.write(tmp_path, [row])  # type: ignore[list-item]
    assert not list(tmp_path.iterdir())


def test_an_older_file_lacks_a_nullable_column_only(tmp_path: Path):
    file = tmp_path / "rates.parquet"
    full = pa.Table.from_pylist([dict(_rate(prompt_set="own"))], schema=RATES.schema)
    pq.write_table(full.drop_columns(["prompt_set"]), file)
    assert RATES.read(file) == [_rate()]
    pq.write_table(full.drop_columns(["k"]), file)
    with pytest.raises(DataError, match="no column k"):
        RATES.read(file)
    file.write_bytes(b"no table")
    with pytest.raises(DataError, match="not a readable table"):
        RATES.read(file)


def test_every_column_says_what_it_holds():
    assert [
        (table.name, column.name) for table in TABLES.values() for column in table.described if not column.doc
    ] == []
