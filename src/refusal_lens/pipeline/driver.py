"""The driver: walks the task graph, computes what is not valid, and loses nothing.

Steps: order the tasks topologically, write the plan, then take every task whose inputs are finished: valid results are
`cached`, others go to the executor; what depends on a failed task fails as blocked, everything else completes. Ctrl-C (or
SIGTERM) lets tasks in hand finish and then stops; a second one stops at once. The driver holds the run's lock.
It does not know what a step does.

Tasks that the plan groups go to a worker together, once it is decided of each whether it must be computed. What the worker has
sealed of them is done; the others are ready again, and after an error each by itself: one bad task costs no other.
"""

from __future__ import annotations

import graphlib
import json
import logging
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType

from refusal_lens.core.files import StorageError, write_atomic
from refusal_lens.errors import ExecutionError
from refusal_lens.executors import Executor, Session, WorkerFactory
from refusal_lens.rundir import RunDir, Store, retract, write_plan
from refusal_lens.types import Outcome, Task, TaskGroup

_LOG = logging.getLogger(__name__)
_SHOWN_FAILURES = 5


@dataclass(frozen=True)
class RunSummary:
    """How a run ended: one outcome per task, in the order they ended."""

    outcomes: tuple[Outcome, ...]

    def count(self, status: str) -> int:
        """How many tasks ended with a status."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The tasks that failed or were blocked by one that did."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    def raise_on_failure(self) -> None:
        """Raise when any task failed.

        Raises:
            ExecutionError: Naming the first failures and their number.
        """
        if not self.failed:
            return
        causes = [outcome for outcome in self.failed if not (outcome.error or "").startswith(_BLOCKED)]
        shown = "\n".join(
            f"  {outcome.task_id}: {(outcome.error or '').splitlines()[0]}" for outcome in causes[:_SHOWN_FAILURES]
        )
        raise ExecutionError(
            f"{len(causes)} of {len(self.outcomes)} tasks failed and {len(self.failed) - len(causes)} more depend on them; "
            f"the rest is complete, `refusal-lens resume` tries the failed ones again:\n{shown}"
        )


_BLOCKED = "blocked: "


def run_tasks(
    run: RunDir,
    tasks: Sequence[Task],
    *,
    executor: Executor,
    worker_factory: WorkerFactory,
    on_outcome: Callable[[Outcome], None] | None = None,
    on_start: Callable[[Task], None] | None = None,
    store: Store | None = None,
    groups: Sequence[Sequence[str]] = (),
) -> RunSummary:
    """Bring every task of a plan to a valid result.

    Args:
        run: The run directory; locked while this runs.
        tasks: The whole plan. Inputs must be in it; the order decides between tasks that are ready together.
        executor: Where tasks are computed. Started only when something must be computed.
        worker_factory: Picklable, zero arguments; gives the worker that computes a task.
        on_outcome: Called after every task, in this thread.
        on_start: Called when a task, or a group, is handed to the executor.
        store: Through which workers without a shared disk exchange results; what it has is fetched first.
        groups: Ids of tasks that a worker is given together; none of a group reads another's outputs.

    Returns:
        One outcome per task.

    Raises:
        RunError: Another process holds the run.
        StorageError: The storage refuses to write; finished tasks are safe.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the tasks in hand were finished first.
    """
    by_id = {task.task_id: task for task in tasks}
    sorter = _sorter(by_id)
    with run.lock(), _resumable(run), _stopping() as stop:
        run.clean_temporary()
        run.sweep()
        retract(run, by_id)
        write_plan(run, tasks)
        if store is not None:
            store.pull_all(run)
            store.push_rest(run)
            worker_factory = store.factory(worker_factory)
        together = {name: tuple(group) for group in groups for name in group}
        walk = _Walk(run, by_id, sorter, on_outcome or _ignore, on_start or _ignore, together)
        with ExitStack() as stack:
            session: Session | None = None
            walk.advance()
            while (walk.ready or walk.running) and not (stop.is_set() and not walk.running):
                if session is None:
                    session = stack.enter_context(executor.session(worker_factory))
                while walk.ready and len(walk.running) < session.capacity and not stop.is_set():
                    session.submit(walk.start())
                outcome = session.next_outcome()
                if store is not None and outcome.status == "done":
                    for member in walk.running[outcome.task_id].members:
                        store.pull(run, member.task_id)
                walk.finish(outcome)
        if walk.waiting and not (walk.ready or stop.is_set()):
            raise ValueError(
                f"{min(walk.waiting)} waits for others of its group, which are not planned or read its outputs"
            )
        write_failures(run, walk.outcomes)
        if stop.is_set() and walk.ready:
            raise KeyboardInterrupt
    return RunSummary(tuple(walk.outcomes))


def write_failures(run: RunDir, outcomes: Sequence[Outcome]) -> None:
    """Leave the failed tasks and their errors in `failures.json` for `status`; remove it when nothing failed."""
    path = run.root / "failures.json"
    failed = {outcome.task_id: outcome.error for outcome in outcomes if outcome.status == "failed"}
    if failed:
        write_atomic(path, json.dumps(failed, indent=1, sort_keys=True).encode())
    else:
        path.unlink(missing_ok=True)


@dataclass
class _Walk:
    """Where the walk through the graph stands."""

    run: RunDir
    by_id: dict[str, Task]
    sorter: graphlib.TopologicalSorter[str]
    on_outcome: Callable[[Outcome], None]
    on_start: Callable[[Task], None]
    together: Mapping[str, tuple[str, ...]]
    decided: set[str] = field(default_factory=set[str])
    waiting: set[str] = field(default_factory=set[str])
    ready: deque[tuple[str, ...]] = field(default_factory=deque[tuple[str, ...]])
    running: dict[str, Task] = field(default_factory=dict[str, Task])
    bad: set[str] = field(default_factory=set[str])
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    place: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.place = {task_id: index for index, task_id in enumerate(self.by_id)}

    def advance(self) -> None:
        """Classify every task whose inputs are decided: cached, blocked, or ready to compute."""
        while decided := self.sorter.get_ready():
            for task_id in sorted(decided, key=self.place.__getitem__):
                self._classify(self.by_id[task_id])
                self._gather(task_id)

    def _classify(self, task: Task) -> None:
        broken = [name for name in task.inputs if name in self.bad]
        if broken:
            self._end(Outcome(task.task_id, "failed", 0.0, f"{_BLOCKED}{broken[0]} failed"))
        elif self.run.is_valid(task):
            self._end(Outcome(task.task_id, "cached", 0.0))
        elif scrubbed := self.run.scrubbed(task.inputs):
            why = f"the text of {scrubbed[0]} was scrubbed, so this cannot be computed again; audit into a new folder"
            self._end(Outcome(task.task_id, "failed", 0.0, why))
        else:
            self.waiting.add(task.task_id)

    def _gather(self, task_id: str) -> None:
        """Make ready what waits of a task's group, once each of the group is decided."""
        self.decided.add(task_id)
        group = self.together.get(task_id, (task_id,))
        if self.decided.issuperset(group) and (found := tuple(name for name in group if name in self.waiting)):
            self.ready.append(found)

    def start(self) -> Task:
        """Take the next ready task or group."""
        names = self.ready.popleft()
        task = TaskGroup.of(self.by_id[names[0]], [self.by_id[name] for name in names[1:]])
        self.waiting.difference_update(names)
        self.running[task.task_id] = task
        self.on_start(task)
        return task

    def finish(self, outcome: Outcome) -> None:
        """Enter the outcomes of what was computed, and see what it makes ready."""
        task = self.running.pop(outcome.task_id)
        sealed = [member.task_id for member in task.members if self.run.record(member.task_id) is not None]
        if isinstance(task, TaskGroup):
            left = tuple(member.task_id for member in task.members if member.task_id not in sealed)
            if outcome.status == "failed" or not sealed:
                more = len(task.others)
                _LOG.warning("%s and %d more together: %s; each is tried alone", task.task_id, more, outcome.error)
                self.ready.extendleft((name,) for name in reversed(left))
            elif left:
                self.ready.appendleft(left)
            for place, name in enumerate(sealed, start=1):
                self._end(Outcome(name, "done", outcome.seconds / len(sealed), more=len(sealed) - place))
        elif outcome.status == "done" and not sealed:
            self._end(Outcome(outcome.task_id, "failed", outcome.seconds, "the step ended without a result"))
        else:
            self._end(outcome)
        self.advance()

    def _end(self, outcome: Outcome) -> None:
        self.sorter.done(outcome.task_id)
        self.outcomes.append(outcome)
        if outcome.status == "failed":
            self.bad.add(outcome.task_id)
            _LOG.error("%s failed: %s", outcome.task_id, outcome.error)
        self.on_outcome(outcome)


def _sorter(by_id: dict[str, Task]) -> graphlib.TopologicalSorter[str]:
    for task in by_id.values():
        for name in task.inputs:
            if name not in by_id:
                raise ValueError(f"{task.task_id} reads {name}, which is not planned")
    sorter = graphlib.TopologicalSorter({task_id: task.inputs for task_id, task in by_id.items()})
    sorter.prepare()
    return sorter


@contextmanager
def _resumable(run: RunDir) -> Generator[None]:
    """Add to a refusal of the storage that nothing is lost and how to go on."""
    try:
        yield
    except StorageError as error:
        how = f"what is finished is safe, `refusal-lens resume {run.root}` goes on from there"
        raise StorageError(f"{error}; {how}") from error


@contextmanager
def _stopping() -> Generator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one interrupts at once. Does nothing outside the main thread."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        _LOG.warning("stopping: the work in hand is finished first (once more to stop at once)")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(item: Outcome | Task) -> None:
    """The callback of a caller who does not care."""
