"""The process pool: same files as the sequential executor, survives dying workers, leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from refusal_lens.errors import ExecutionError, ModelError
from refusal_lens.executors import Executor, SequentialExecutor, get_executor
from refusal_lens.rundir import RunDir, StorageError
from refusal_lens.types import Advance, Task

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from executors_work import Factory, plan  # noqa: E402

from driver_alone import RunSummary, run_tasks  # noqa: E402


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", header={})


def go(run: RunDir, tasks: list[Task], executor: Executor | None = None, *, broken: bool = False) -> RunSummary:
    factory = Factory(run.root, run.root.parent / "notes", broken)
    return run_tasks(run, tasks, executor=executor or get_executor("local", workers=2), worker_factory=factory)


def test_a_worker_process_says_how_far_its_task_is(run: RunDir) -> None:
    heard: list[Advance] = []
    go(run, plan(2, {1: "tell"}), get_executor("local", workers=2, on_advance=heard.append)).raise_on_failure()
    assert heard == [Advance("leaf/n1", 0.75, "3 of 4 parts")]


def notes(run: RunDir, kind: str) -> list[list[str]]:
    lines = (run.root.parent / "notes").read_text().splitlines()
    return [line.split()[1:] for line in lines if line.startswith(kind)]


def test_two_processes_leave_the_same_files_as_one(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    other = RunDir.create(tmp_path / "other", header={})
    tasks = plan(6, {0: "meet"})
    go(run, tasks).raise_on_failure()
    go(other, tasks, SequentialExecutor()).raise_on_failure()
    for task in tasks:
        mine, theirs = run.record(task.task_id), other.record(task.task_id)
        assert mine is not None and theirs is not None
        assert (mine.key, mine.outputs, mine.inputs) == (theirs.key, theirs.outputs, theirs.inputs)
    made = notes(run, "made")
    assert len({pid for pid, _ in made}) == 3  # two in the pool, one sequential
    assert made[0][1] == str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert not psutil.Process().children(recursive=True) or all(
        "serve" not in " ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)
    )


def test_a_dying_worker_is_replaced_and_its_task_repeated(run: RunDir) -> None:
    go(run, plan(4, {1: "die-once"})).raise_on_failure()
    assert [name for name, _ in notes(run, "task")].count("leaf/n1") == 2


def test_a_worker_that_dies_over_a_group_costs_the_deadly_task_alone(run: RunDir) -> None:
    factory, executor = Factory(run.root, run.root.parent / "notes"), get_executor("local", workers=2)
    groups = [["leaf/n0", "leaf/n1", "leaf/n2"]]
    summary = run_tasks(run, plan(4, {1: "die"}), executor=executor, worker_factory=factory, groups=groups)
    assert notes(run, "group") == groups, "a group is not tried again"
    names = [name for name, _ in notes(run, "task")]
    assert {name: names.count(name) for name in sorted(names)} == {
        "leaf/n0": 1,
        "leaf/n1": 4,
        "leaf/n2": 1,
        "leaf/n3": 1,
    }
    assert {outcome.task_id for outcome in summary.failed} == {"leaf/n1", "sum/all"}


def test_a_deadly_shard_is_reported_after_three_workers_and_the_rest_completes(run: RunDir) -> None:
    summary = go(run, plan(5, {2: "die"}))
    assert summary.count("done") == 4
    assert [outcome.task_id for outcome in summary.failed] == ["leaf/n2", "sum/all"]
    assert "worker died 3 times (SIGKILL)" in str(summary.failed[0].error)
    assert [name for name, _ in notes(run, "task")].count("leaf/n2") == 3


def test_a_poisoned_shard_is_reported_and_the_rest_completes(run: RunDir) -> None:
    summary = go(run, plan(5, {2: "raise"}))
    assert summary.count("done") == 4
    with pytest.raises(ExecutionError, match="poisoned shard"):
        summary.raise_on_failure()


@pytest.mark.parametrize(
    ("how", "error", "match"), [("full", StorageError, "make room"), ("model", ModelError, "no weights")]
)
def test_what_concerns_the_whole_run_stops_it(run: RunDir, how: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        go(run, plan(3, {0: how}))


def test_a_factory_that_fails_says_so(run: RunDir) -> None:
    with pytest.raises(ExecutionError, match="broken factory"):
        go(run, plan(2), broken=True)


DRIVER = """
import sys
sys.path[:0] = [{here!r}, {tests!r}]
from pathlib import Path
from driver_alone import run_tasks
from executors_work import Factory, plan  # noqa: E402
from refusal_lens.executors import get_executor
from refusal_lens.rundir import RunDir

if __name__ == "__main__":
    run = RunDir.create(Path({root!r}), header={{}})
    tasks = plan(8, {{index: "slow" for index in range(8)}})
    factory = Factory(run.root, run.root.parent / "notes")
    try:
        run_tasks(run, tasks, executor=get_executor("local", workers=2), worker_factory=factory)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def start_driver(run: RunDir) -> subprocess.Popen[bytes]:
    script = run.root.parent / "driver.py"
    script.write_text(
        DRIVER.format(here=str(Path(__file__).parent), tests=str(Path(__file__).parents[1]), root=str(run.root))
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (run.root.parent / "notes").exists() or len(notes(run, "task")) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    return process


def test_ctrl_c_for_the_whole_group_finishes_the_shards_in_hand(run: RunDir) -> None:
    process = start_driver(run)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    begun = {name for name, _ in notes(run, "task")}
    assert all(run.record(name) is not None for name in begun)
    assert len(begun) < 8


def test_a_killed_driver_takes_its_workers_along_and_loses_nothing(run: RunDir) -> None:
    process = start_driver(run)
    workers = [psutil.Process(int(pid)) for pid, _ in notes(run, "made")]
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
    finished = {task.task_id for task in plan(8) if run.record(task.task_id) is not None}
    assert finished
    summary = go(run, plan(8, dict.fromkeys(range(8), "slow")))
    summary.raise_on_failure()
    assert {outcome.task_id for outcome in summary.outcomes if outcome.status == "cached"} >= finished
