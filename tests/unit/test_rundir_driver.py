"""The driver on a small graph of pure tasks: caching, failures, interruption."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from refusal_lens.errors import ExecutionError, ModelError, RunError
from refusal_lens.executors import SequentialExecutor, Worker
from refusal_lens.rundir import RunDir, StorageError
from refusal_lens.types import Outcome, Task

sys.path.insert(0, str(Path(__file__).parents[1]))
from driver_alone import run_tasks

LEAVES = tuple(Task("leaf", 1, f"n{index}", {"value": index}) for index in range(4))
SUM = Task("sum", 1, "all", {}, tuple(task.task_id for task in LEAVES))
DOUBLE = Task("double", 1, "all", {"factor": 2}, ("sum/all",))
PLAN = (DOUBLE, SUM, *LEAVES)


@dataclass(frozen=True)
class Adding:
    """Adds up numbers; may fail on chosen tasks, and leaves a line per computation in `log`."""

    root: Path
    log: Path
    poison: str = ""
    signal_at: str = ""

    def __call__(self) -> Worker:
        return self.compute

    def compute(self, task: Task) -> None:
        run = RunDir.open(self.root)
        with self.log.open("a") as stream:
            stream.write(task.task_id + "\n")
        if task.task_id == self.poison:
            raise ValueError("poisoned hf_abcdefghijklmnop")
        if task.task_id == self.signal_at:
            os.kill(os.getpid(), signal.SIGINT)
        parts = [json.loads(run.path(name, "value.json").read_text()) for name in task.inputs]
        value = task.params.get("value", sum(parts) * int(str(task.params.get("factor", 1))))
        with run.writing(task) as folder:
            (folder / "value.json").write_text(json.dumps(value))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", header={})


def go(run: RunDir, tasks: tuple[Task, ...] = PLAN, **options: str) -> list[str]:
    log = run.root.parent / "log"
    log.write_text("")
    factory = Adding(run.root, log, **options)
    summary = run_tasks(run, tasks, executor=SequentialExecutor(), worker_factory=factory)
    summary.raise_on_failure()
    return log.read_text().split()


def test_everything_is_computed_once_in_order(run: RunDir) -> None:
    assert go(run) == ["leaf/n0", "leaf/n1", "leaf/n2", "leaf/n3", "sum/all", "double/all"]
    assert json.loads(run.path("double/all", "value.json").read_text()) == 12
    assert go(run) == []


def test_a_changed_field_recomputes_only_what_depends_on_it(run: RunDir) -> None:
    go(run)
    assert go(run, (Task("double", 1, "all", {"factor": 3}, ("sum/all",)), *PLAN[1:])) == ["double/all"]
    leaf = Task("leaf", 1, "n1", {"value": 9})
    assert go(run, (*PLAN[:3], leaf, *PLAN[4:])) == ["leaf/n1", "sum/all", "double/all"]


def test_an_input_that_comes_out_the_same_stops_the_wave(run: RunDir) -> None:
    go(run)
    assert go(run, (*PLAN[:3], Task("leaf", 2, "n1", {"value": 1}), *PLAN[4:])) == ["leaf/n1"]


def test_damage_deep_in_the_graph_is_repaired(run: RunDir) -> None:
    go(run)
    run.path("leaf/n2", "value.json").write_text("7")
    assert go(run) == ["leaf/n2"]
    assert json.loads(run.path("leaf/n2", "value.json").read_text()) == 2


def test_a_poisoned_task_blocks_only_its_dependents(run: RunDir) -> None:
    factory = Adding(run.root, run.root.parent / "log", poison="leaf/n1")
    seen: list[Outcome] = []
    summary = run_tasks(run, PLAN, executor=SequentialExecutor(), worker_factory=factory, on_outcome=seen.append)
    assert {outcome.task_id: outcome.status for outcome in summary.outcomes} == {
        "leaf/n0": "done", "leaf/n1": "failed", "leaf/n2": "done", "leaf/n3": "done", "sum/all": "failed", "double/all": "failed",
    }  # fmt: skip
    assert tuple(seen) == summary.outcomes
    with pytest.raises(
        ExecutionError, match=r"1 of 6 tasks failed and 2 more depend on them.*resume[\s\S]*poisoned"
    ) as caught:
        summary.raise_on_failure()
    assert "hf_" not in str(caught.value)
    assert go(run) == ["leaf/n1", "sum/all", "double/all"]


def test_an_interrupt_finishes_the_task_in_hand(run: RunDir) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        go(run, signal_at="leaf/n1")
    assert signal.getsignal(signal.SIGINT) == before
    assert run.record("leaf/n1") is not None
    assert run.record("leaf/n2") is None
    assert go(run) == ["leaf/n2", "leaf/n3", "sum/all", "double/all"]


def test_a_worker_that_cannot_be_made_is_one_clear_error(run: RunDir) -> None:
    def factory() -> Worker:
        raise ModelError("no weights")

    with pytest.raises(ModelError, match="no weights"):
        run_tasks(run, PLAN, executor=SequentialExecutor(), worker_factory=factory)


def test_a_full_disk_stops_the_run_and_it_goes_on_after(run: RunDir) -> None:
    def factory() -> Worker:
        def compute(task: Task) -> None:
            with run.writing(task), Path("/dev/full").open("w") as stream:
                stream.write("x")

        return compute

    with pytest.raises(StorageError, match="make room"):
        run_tasks(run, PLAN, executor=SequentialExecutor(), worker_factory=factory)
    assert len(go(run)) == 6


def test_a_step_without_a_result_fails(run: RunDir) -> None:
    summary = run_tasks(run, LEAVES[:1], executor=SequentialExecutor(), worker_factory=lambda: lambda task: None)
    assert summary.failed[0].error == "the step ended without a result"


def test_a_held_run_is_refused(run: RunDir) -> None:
    with RunDir.open(run.root).lock(), pytest.raises(RunError, match="held by process"):
        go(run)


def test_a_plan_with_a_hole_or_a_cycle_is_a_defect(run: RunDir) -> None:
    with pytest.raises(ValueError, match="not planned"):
        go(run, (SUM,))
    with pytest.raises(ValueError, match="cycle"):
        go(run, (Task("a", 1, "x", {}, ("a/y",)), Task("a", 1, "y", {}, ("a/x",))))


def test_published_tables_follow_their_task_and_damage_is_repaired(run: RunDir) -> None:
    go(run)
    table = run.tables_dir / "value.json"
    run.publish(run.path("sum/all", "value.json"))
    assert table.read_text() == "6"
    table.write_text("7")
    run.publish(run.path("sum/all", "value.json"))
    assert table.read_text() == "6"
    assert [path.read_text() for path in (run.root / "aside").glob("*/tables/value.json")] == ["7"]
    go(run, LEAVES)
    assert not table.exists()


def test_foreign_files_are_set_aside_before_work(run: RunDir) -> None:
    go(run)
    run.publish(run.path("sum/all", "value.json"))
    places = {"notes.txt", "tables/guest.csv", "data/leaf/guest/x.bin", "tasks/leaf/x.txt"}
    for place in places:
        path = run.root / place
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    assert go(run) == []
    aside = run.root / "aside"
    assert {str(path.relative_to(aside)).split("/", 1)[1] for path in aside.rglob("*") if path.is_file()} >= places
    assert (run.tables_dir / "value.json").exists()
