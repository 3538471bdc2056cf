"""A real local Ray cluster: same files as the local executor; killed workers, nodes and drivers lose nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refusal_lens.errors import ModelError, UserError
from refusal_lens.executors import SequentialExecutor, get_executor
from refusal_lens.rundir import RunDir, StorageError
from refusal_lens.types import Advance, Task

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'refusal-lens[ray]'")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from executors_work import Factory, plan  # noqa: E402

from driver_alone import RunSummary, run_tasks  # noqa: E402

pytestmark = [pytest.mark.ray]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A head without CPUs and two nodes with one CPU each: a worker per node."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        assert len(nodes) == 2
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.wait_for_nodes()
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", header={})


def go(run: RunDir, tasks: list[Task]) -> RunSummary:
    factory = Factory(run.root, run.root.parent / "notes")
    return run_tasks(run, tasks, executor=get_executor("ray", workers=2), worker_factory=factory)


def test_an_actor_says_how_far_its_task_is(cluster: object, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    from refusal_lens.executors import on_ray

    monkeypatch.setattr(on_ray, "_LOOK_SECONDS", 0.05)
    heard: list[Advance] = []
    factory = Factory(run.root, run.root.parent / "notes")
    executor = get_executor("ray", workers=1, on_advance=heard.append)
    tasks = plan(2, {0: "tell"})
    run_tasks(run, tasks, executor=executor, worker_factory=factory).raise_on_failure()
    assert heard == [Advance("leaf/n0", 0.75, "3 of 4 parts")]


def notes(run: RunDir, kind: str) -> list[list[str]]:
    path = run.root.parent / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1:] for line in lines if line.startswith(kind)]


def test_two_actors_leave_the_same_files_as_one_process(cluster: object, run: RunDir, tmp_path: Path) -> None:
    other = RunDir.create(tmp_path / "other", header={})
    tasks = plan(6, {0: "meet"})
    go(run, tasks).raise_on_failure()
    assert len({pid for pid, _ in notes(run, "made")}) == 2
    factory = Factory(other.root, tmp_path / "notes")
    run_tasks(other, tasks, executor=SequentialExecutor(), worker_factory=factory).raise_on_failure()
    for task in tasks:
        mine, theirs = run.record(task.task_id), other.record(task.task_id)
        assert mine is not None and theirs is not None
        assert (mine.key, mine.outputs, mine.inputs) == (theirs.key, theirs.outputs, theirs.inputs)
    assert go(run, tasks).count("cached") == len(tasks)


def test_a_killed_worker_is_replaced(cluster: object, run: RunDir) -> None:
    go(run, plan(4, {1: "die-once"})).raise_on_failure()
    assert [name for name, _ in notes(run, "task")].count("leaf/n1") == 2


def test_a_poisoned_and_a_deadly_shard_are_reported_after_three_attempts(cluster: object, run: RunDir) -> None:
    summary = go(run, plan(6, {1: "raise", 2: "die"}))
    assert summary.count("done") == 4
    failed = {outcome.task_id: str(outcome.error) for outcome in summary.failed}
    assert "poisoned shard" in failed["leaf/n1"] and "3 attempts" in failed["leaf/n1"]
    assert "worker died 3 times" in failed["leaf/n2"]
    counted = [name for name, _ in notes(run, "task")]
    assert (counted.count("leaf/n1"), counted.count("leaf/n2")) == (3, 3)


@pytest.mark.parametrize(("how", "error"), [("full", StorageError), ("model", ModelError)])
def test_what_concerns_the_whole_run_stops_it(cluster: object, run: RunDir, how: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        go(run, plan(3, {0: how}))


def test_a_lost_node_is_survived(cluster: object, run: RunDir) -> None:
    from ray.cluster_utils import Cluster

    assert isinstance(cluster, Cluster)
    node = cluster.add_node(num_cpus=1, resources={"extra": 1})
    cluster.wait_for_nodes()
    factory = Factory(run.root, run.root.parent / "notes")
    killed: list[bool] = []

    def kill_a_node(_: object) -> None:
        if not killed:
            killed.append(True)
            cluster.remove_node(node, allow_graceful=False)

    summary = run_tasks(
        run,
        plan(9, dict.fromkeys(range(9), "slow")),
        executor=get_executor("ray", workers=3),
        worker_factory=factory,
        on_outcome=kill_a_node,
    )
    assert killed
    assert summary.failed == ()
    assert summary.count("done") == 10


DRIVER = """
import sys
sys.path[:0] = [{here!r}, {tests!r}]
from pathlib import Path
from driver_alone import run_tasks
from executors_work import Factory, plan
from refusal_lens.executors import get_executor
from refusal_lens.rundir import RunDir

run = RunDir.create(Path({root!r}), header={{}})
factory = Factory(run.root, run.root.parent / "notes")
executor = get_executor("ray", workers=2, address={address!r})
run_tasks(run, plan(8, {{index: "slow" for index in range(8)}}), executor=executor, worker_factory=factory)
"""


@pytest.mark.slow
def test_a_killed_driver_loses_nothing(cluster: object, run: RunDir) -> None:
    from ray.cluster_utils import Cluster

    assert isinstance(cluster, Cluster)
    script = run.root.parent / "driver.py"
    script.write_text(
        DRIVER.format(
            here=str(Path(__file__).parent),
            tests=str(Path(__file__).parents[1]),
            root=str(run.root),
            address=cluster.address,
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while len(notes(run, "task")) < 4:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {task.task_id for task in plan(8) if run.record(task.task_id) is not None}
    assert finished
    summary = go(run, plan(8, dict.fromkeys(range(8), "slow")))
    summary.raise_on_failure()
    assert {outcome.task_id for outcome in summary.outcomes if outcome.status == "cached"} >= finished


def test_too_few_gpus_are_one_clear_message(cluster: object) -> None:
    executor = get_executor("ray", workers=1, gpus_per_worker=2.0)
    with (
        pytest.raises(UserError, match="--gpus-per-worker 2: the cluster has 0 GPUs"),
        executor.session(Factory(Path(), Path())),
    ):
        pass


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="--executor ray"):
        get_executor("local", workers=2, address="auto")
