"""CSV copies go with their tables, folders are not masked, a held run keeps its configuration: found by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from refusal_lens.core.redact import redact_text
from refusal_lens.errors import RunError, UserError
from refusal_lens.pipeline.results import open_run
from refusal_lens.rundir import RunDir, Store, retract, verify_chain, write_plan
from refusal_lens.types import Task


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", header={"seed": 0})


def publish_rows(run: RunDir, version: int) -> Task:
    task = Task("geometry", version, "all", {})
    with run.writing(task) as folder:
        pq.write_table(pa.table({"x": [version]}), folder / "rows.parquet")
    write_plan(run, [task])
    run.publish(run.path("geometry/all", "rows.parquet"))
    return task


def test_a_copy_as_csv_goes_with_the_table_it_was_made_from(run: RunDir) -> None:
    """The report writes CSV beside tables that have none; a new or withdrawn table must not leave an old one behind."""
    copy = run.tables_dir / "rows.csv"
    for version in (1, 2):
        publish_rows(run, version)
        assert not copy.exists()
        pa_csv.write_csv(pq.read_table(run.tables_dir / "rows.parquet"), copy)
        assert verify_chain(run).problems == ()
    publish_rows(run, 2)
    assert copy.exists()
    retract(run, ())
    assert not copy.exists()
    assert sorted(path.name for path in (run.root / "aside").glob("*/tables/*")) == [
        "rows.csv",
        "rows.csv",
        "rows.parquet",
    ]


@pytest.mark.parametrize(
    "folder", ["/data/risk-assessment-models/x", "/srv/rhf_collections/x", "/home/task-force-alphabet"]
)
def test_a_folder_is_not_masked_because_of_how_a_word_ends(folder: str) -> None:
    assert redact_text(folder) == folder


def test_a_secret_in_a_stores_url_stays_out_of_its_messages() -> None:
    store = Store("foo://me:hunter2pass@bucket/x?X-Amz-Signature=SIGNED123")
    with pytest.raises(UserError) as told:
        store.check()
    assert "foo://***@bucket" in str(told.value)
    assert "hunter2pass" not in str(told.value) and "SIGNED123" not in str(told.value)


def test_a_held_run_keeps_the_configuration_of_its_holder(run: RunDir) -> None:
    """Otherwise the next resume would go on with what the second process was asked for."""
    with run.lock(), pytest.raises(RunError, match="held by process"):
        RunDir.create(run.root, header={"seed": 1})
    assert RunDir.open(run.root).header["seed"] == 0
    assert RunDir.create(run.root, header={"seed": 1}).header["seed"] == 1


@pytest.mark.parametrize("damage", [b"", b"{", b"PAR1" + bytes(20), b"\xff" * 9])
def test_a_damaged_table_or_verdict_is_one_message_with_the_way_out(run: RunDir, damage: bytes) -> None:
    run.tables_dir.mkdir()
    for name in ("rates.parquet", "verdict.json"):
        (run.tables_dir / name).write_bytes(damage)
    found = open_run(run.root)
    for read in (lambda: found.rates, lambda: found.verdict):
        with pytest.raises(RunError, match=r"resume .* repairs it"):
            read()
