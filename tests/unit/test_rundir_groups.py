"""Tasks that go to a worker together: each keeps its key and its result, and a bad one costs no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from refusal_lens.executors import SequentialExecutor, Worker
from refusal_lens.rundir import RunDir
from refusal_lens.types import Outcome, Task, TaskGroup

sys.path.insert(0, str(Path(__file__).parents[1]))
from driver_alone import RunSummary, run_tasks

START = Task("start", 1, "all")
LEAVES = tuple(Task("leaf", 1, f"n{index}", {"value": index}, (START.task_id,)) for index in range(4))
SUM = Task("sum", 1, "all", {}, tuple(leaf.task_id for leaf in LEAVES))
PLAN = (START, *LEAVES, SUM)
GROUP = tuple(leaf.task_id for leaf in LEAVES)


@dataclass
class Writing:
    """Writes every task of a group that it holds, or those before a bad one; remembers what it was given."""

    run: RunDir
    poison: str = ""
    holds: int = 9
    given: list[list[str]] = field(default_factory=list[list[str]])

    def __call__(self) -> Worker:
        return self.compute

    def compute(self, task: Task) -> None:
        self.given.append([member.task_id for member in task.members])
        for member in task.members[: self.holds]:
            if member.task_id == self.poison:
                raise ValueError("poisoned")
            with self.run.writing(member) as folder:
                (folder / "value.txt").write_text(member.task_id)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", header={})


def go(
    run: RunDir, worker: Callable[[], Worker], tasks: Sequence[Task] = PLAN, groups: Sequence[Sequence[str]] = (GROUP,)
) -> RunSummary:
    return run_tasks(run, tasks, executor=SequentialExecutor(), worker_factory=worker, groups=groups)


def test_a_group_is_one_piece_of_work_and_leaves_the_records_of_tasks_computed_one_by_one(
    run: RunDir, tmp_path: Path
) -> None:
    worker, other = Writing(run), RunDir.create(tmp_path / "other", header={})
    summary = go(run, worker)
    assert worker.given == [["start/all"], list(GROUP), ["sum/all"]]
    assert [outcome.task_id for outcome in summary.outcomes] == [task.task_id for task in PLAN]
    assert [outcome.more for outcome in summary.outcomes] == [0, 3, 2, 1, 0, 0]
    go(other, Writing(other), groups=())
    assert (run.root / "plan.json").read_bytes() == (other.root / "plan.json").read_bytes()
    for task in PLAN:
        mine, theirs = run.record(task.task_id), other.record(task.task_id)
        assert mine is not None and theirs is not None
        assert (mine.key, mine.outputs, mine.inputs) == (theirs.key, theirs.outputs, theirs.inputs)
    assert go(run, worker).count("cached") == len(PLAN)


def test_of_a_group_only_what_is_missing_is_computed(run: RunDir) -> None:
    go(run, Writing(run), PLAN[:3], groups=())
    worker = Writing(run)
    assert go(run, worker).count("cached") == 3
    assert worker.given == [list(GROUP[2:]), ["sum/all"]]


def test_what_a_worker_did_not_hold_is_the_next_group(run: RunDir) -> None:
    worker = Writing(run, holds=3)
    go(run, worker).raise_on_failure()
    assert worker.given == [["start/all"], list(GROUP), [GROUP[3]], ["sum/all"]]


def test_a_bad_task_fails_alone_and_what_was_sealed_before_it_is_kept(run: RunDir) -> None:
    worker = Writing(run, poison=GROUP[2])
    summary = go(run, worker)
    assert worker.given == [["start/all"], list(GROUP), [GROUP[2]], [GROUP[3]]]
    assert {outcome.task_id: outcome.status for outcome in summary.outcomes} == {
        START.task_id: "done", **dict.fromkeys(GROUP, "done"), GROUP[2]: "failed", SUM.task_id: "failed",
    }  # fmt: skip
    good = Writing(run)
    go(run, good).raise_on_failure()
    assert good.given == [[GROUP[2]], ["sum/all"]]


def test_a_worker_that_knows_no_groups_computes_each_of_them(run: RunDir) -> None:
    worker = Writing(run, holds=1)
    go(run, worker).raise_on_failure()
    assert [given[0] for given in worker.given] == ["start/all", *GROUP, "sum/all"]


def test_a_group_that_writes_nothing_is_tried_one_by_one_and_said_to_have_failed(run: RunDir) -> None:
    worker = Writing(run, holds=0)
    summary = run_tasks(run, LEAVES_ALONE, executor=SequentialExecutor(), worker_factory=worker, groups=[GROUP])
    assert [len(given) for given in worker.given] == [4, 1, 1, 1, 1]
    assert {outcome.error for outcome in summary.outcomes} == {"the step ended without a result"}


def test_a_group_waits_for_its_last_member_and_goes_without_one_that_cannot_be_computed(run: RunDir) -> None:
    late = Task("leaf", 1, "late", {}, ("slow/all",))
    tasks = (*PLAN[:-1], Task("slow", 1, "all"), late)
    group = [*GROUP, late.task_id]
    worker = Writing(run)
    go(run, worker, tasks, [group]).raise_on_failure()
    assert worker.given == [["start/all"], ["slow/all"], group]
    again = RunDir.create(run.root.parent / "again", header={})
    failing = Writing(again, poison="slow/all")
    summary = go(again, failing, tasks, [group])
    assert failing.given == [["start/all"], ["slow/all"], list(GROUP)]
    assert {outcome.task_id for outcome in summary.failed} == {"slow/all", late.task_id}


@pytest.mark.parametrize("group", [[*GROUP, "leaf/unknown"], [*GROUP, SUM.task_id]])
def test_a_group_that_can_never_begin_is_a_defect_and_no_silent_end(run: RunDir, group: list[str]) -> None:
    with pytest.raises(ValueError, match=r"leaf/n0 waits for others of its group"):
        go(run, Writing(run), groups=[group])


def test_a_group_is_handed_over_and_told_once(run: RunDir) -> None:
    started: list[Task] = []
    ended: list[Outcome] = []
    run_tasks(run, PLAN, executor=SequentialExecutor(), worker_factory=Writing(run), groups=[GROUP],
              on_start=started.append, on_outcome=ended.append)  # fmt: skip
    assert [len(task.members) for task in started] == [1, 4, 1]
    assert isinstance(started[1], TaskGroup)
    seconds = [outcome.seconds for outcome in ended if outcome.task_id in GROUP]
    assert len(set(seconds)) == 1, "each took its part of the time"


LEAVES_ALONE = tuple(Task("leaf", 1, f"n{index}") for index in range(4))
