"""Workers without a shared disk: results travel through a store, by fsspec URL; a lost driver's machine loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refusal_lens.errors import UserError
from refusal_lens.executors import SequentialExecutor, get_executor
from refusal_lens.rundir import RunDir, StorageError, Store, scrub, verify_chain, write_plan
from refusal_lens.types import Task

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from executors_work import Factory, plan  # noqa: E402

from driver_alone import RunSummary, run_tasks  # noqa: E402


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder, and an S3-compatible server on this machine."""
    if request.param == "file":
        yield f"file://{tmp_path}/store"
        return
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)  # the server's memory outlives it
    yield f"s3://bucket/runs/{tmp_path.name}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def go(root: Path, url: str, notes: Path, workers: int = 1, groups: Sequence[Sequence[str]] = ()) -> RunSummary:
    run = RunDir.create(root, header={"seed": 0})
    factory = Factory(Path("/nowhere"), notes)  # a worker that ignored the store would fail at once
    executor = get_executor("local", workers=workers)
    return run_tasks(run, plan(4), executor=executor, worker_factory=factory, store=Store(url), groups=groups)


def test_results_reach_the_driver_through_the_store(url: str, tmp_path: Path) -> None:
    summary = go(tmp_path / "run", url, tmp_path / "notes", workers=2)
    assert summary.count("done") == 5
    run = RunDir.open(tmp_path / "run")
    assert json.loads(run.path("sum/all", "value.json").read_text()) == 6
    assert verify_chain(run).problems == ()


def test_tasks_computed_together_reach_the_store_each(tmp_path: Path) -> None:
    url, group = f"file://{tmp_path}/store", ["leaf/n0", "leaf/n1", "leaf/n3"]
    assert go(tmp_path / "run", url, tmp_path / "notes", groups=[group]).count("done") == 5
    assert f"group {' '.join(group)}" in (tmp_path / "notes").read_text().splitlines()
    assert go(tmp_path / "elsewhere", url, tmp_path / "notes").count("cached") == 5


def test_a_driver_on_a_fresh_machine_recomputes_nothing(url: str, tmp_path: Path) -> None:
    go(tmp_path / "run", url, tmp_path / "notes")
    shutil.rmtree(tmp_path / "run")
    assert go(tmp_path / "elsewhere", url, tmp_path / "notes").count("cached") == 5


def test_damage_in_the_store_is_found_and_computed_again(url: str, tmp_path: Path) -> None:
    go(tmp_path / "run", url, tmp_path / "notes")
    shutil.rmtree(tmp_path / "run")
    system, root = Store(url)._place
    system.pipe_file(f"{root}/data/leaf/n1/value.json", b"7")
    system.pipe_file(f"{root}/tasks/leaf/n2.json", b"{}")
    summary = go(tmp_path / "elsewhere", url, tmp_path / "notes")
    assert {outcome.task_id for outcome in summary.outcomes if outcome.status == "done"} == {"leaf/n1", "leaf/n2"}
    assert json.loads(RunDir.open(tmp_path / "elsewhere").path("leaf/n1", "value.json").read_text()) == 1


def test_a_store_is_a_run_directory_when_copied_down(tmp_path: Path) -> None:
    go(tmp_path / "run", f"file://{tmp_path}/store", tmp_path / "notes")
    assert verify_chain(RunDir.open(tmp_path / "store")).problems == ()


def test_a_factory_that_cannot_move_is_refused(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", header={})
    with pytest.raises(UserError, match="shared disk"):
        run_tasks(
            run,
            plan(1),
            executor=SequentialExecutor(),
            worker_factory=lambda: print,
            store=Store(f"file://{tmp_path}/s"),
        )


@pytest.mark.parametrize("bad", ["nosuch://x/y", "s3x://"])
def test_an_unknown_storage_is_one_clear_message(tmp_path: Path, bad: str) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        Store(bad).push_rest(RunDir.create(tmp_path / "run", header={}))


def test_a_folder_as_a_store_keeps_completion_text_for_the_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        go(tmp_path / "run", f"file://{tmp_path}/store", tmp_path / "notes")
    finally:
        os.umask(before)
    store = tmp_path / "store"
    assert {path.stat().st_mode & 0o077 for path in (store / "data").rglob("*") if path.is_file()} == {0}
    assert (store / "data").stat().st_mode & 0o077 == 0


def test_a_store_that_refuses_is_one_message_and_the_run_goes_on_after(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file in the way")
    with pytest.raises(StorageError, match="store"):
        go(tmp_path / "run", f"file://{tmp_path}/store", tmp_path / "notes")
    (tmp_path / "store").unlink()
    assert go(tmp_path / "run", f"file://{tmp_path}/store", tmp_path / "notes").count("done") == 5


def test_a_scrub_reaches_the_store(url: str, tmp_path: Path) -> None:
    task = Task("completions", 1, "en", {})
    run = RunDir.create(tmp_path / "run", header={"seed": 0})
    with run.writing(task) as folder:
        pq.write_table(pa.table({"text": ["a secret answer"]}), folder / "completions.parquet")
    write_plan(run, [task])
    run.render({"report.html": b"a secret answer", "figures/a.svg": b"<svg/>", "figures/b.svg": b"<svg/>"})
    store = Store(url)
    store.push(run, "completions/en")
    store.settle(run)
    system, root = store._place
    assert any(b"secret" in system.cat_file(path) for path in system.find(root))
    scrub(run)
    run.render({"figures/a.svg": b"<svg/>"})
    store.push_scrubbed(run)
    left = {path.removeprefix(f"{root}/"): system.cat_file(path) for path in system.find(root)}
    assert not any(b"secret" in content for content in left.values())
    assert {place for place in left if place.startswith(("figures", "report"))} == {"figures/a.svg"}
    fresh = RunDir.create(tmp_path / "fresh", header={"seed": 0})
    assert store.pull_all(fresh) == 1 and fresh.scrubbed(["completions/en"]) == ["completions/en"]
    store.push_scrubbed(run)
