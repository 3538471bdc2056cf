"""What an executor is: a session that takes tasks and gives back outcomes, in whatever order they finish; and the simplest.

The driver decides what is ready; an executor only decides where it runs. A worker is made once per process by a picklable
factory and computes tasks one after another; it writes through `RunDir.writing` and returns nothing. An executor does not
know steps, models or keys. `SequentialExecutor` is the reference: every other one must leave the same files behind.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from refusal_lens.core.files import StorageError
from refusal_lens.core.progress import listening
from refusal_lens.core.redact import redact_text
from refusal_lens.errors import LensError, ModelError
from refusal_lens.types import Advance, Outcome, Task, TaskGroup

Worker: TypeAlias = Callable[[Task], None]
WorkerFactory: TypeAlias = Callable[[], Worker]
OnAdvance: TypeAlias = Callable[[Advance], None]
"""Told, about once a second, how far a running task is."""

MAX_ATTEMPTS = 3
_LAST_LINES = 12
_LOG = logging.getLogger(__name__)


@runtime_checkable
class Session(Protocol):
    """Workers that are up."""

    @property
    def capacity(self) -> int:
        """How many tasks to keep submitted so that no worker waits."""
        ...

    def submit(self, task: Task) -> None:
        """Hand a ready task over."""
        ...

    def next_outcome(self) -> Outcome:
        """Wait for any submitted task to end.

        Returns:
            Its outcome, `done` or `failed`.

        Raises:
            StorageError: The run's storage refuses to write; going on would fail every task alike.
            ModelError: The model cannot be loaded; likewise.
        """
        ...


@runtime_checkable
class Executor(Protocol):
    """Where tasks run."""

    def session(self, worker_factory: WorkerFactory) -> AbstractContextManager[Session]:
        """Start workers; they are gone when the block ends.

        Args:
            worker_factory: Picklable; called once in each worker process. The worker reaches the run by itself.

        Returns:
            Context manager over the session.
        """
        ...


def run_one(worker: Worker, task: Task, on_advance: OnAdvance | None = None) -> Outcome:
    """Compute one task and say how it ended.

    Args:
        worker: The process's worker.
        task: A task whose inputs are finished.
        on_advance: Told on the way how far it is.

    Returns:
        `done`, or `failed` with the error's text (secrets masked).

    Raises:
        StorageError: Passed on: it concerns the run, not the task.
        ModelError: Passed on: every task would fail alike.
    """
    started = time.monotonic()

    def hear(share: float, words: str) -> None:
        if on_advance is not None:
            on_advance(Advance(task.task_id, share, words))

    heard = nullcontext() if on_advance is None else listening(hear)
    try:
        with heard:
            worker(task)
    except (StorageError, ModelError):
        raise
    except Exception as error:  # noqa: BLE001  the boundary of a task: one poisoned shard must not take the others along
        return Outcome(task.task_id, "failed", time.monotonic() - started, describe(error))
    return Outcome(task.task_id, "done", time.monotonic() - started)


@dataclass
class _SequentialSession:
    factory: WorkerFactory
    on_advance: OnAdvance | None = None
    waiting: deque[Task] = field(default_factory=deque[Task])
    worker: Worker | None = None
    capacity: int = 1

    def submit(self, task: Task) -> None:
        self.waiting.append(task)

    def next_outcome(self) -> Outcome:
        if self.worker is None:
            self.worker = self.factory()
        return run_one(self.worker, self.waiting.popleft(), self.on_advance)


@dataclass(frozen=True)
class SequentialExecutor:
    """Runs tasks in this process, in the order they become ready. The worker is made when the first task comes."""

    on_advance: OnAdvance | None = None

    @contextmanager
    def session(self, worker_factory: WorkerFactory) -> Generator[Session]:
        """One worker in this process.

        Args:
            worker_factory: Called at the first task; what it raises passes through.

        Yields:
            The session.
        """
        yield _SequentialSession(worker_factory, self.on_advance)


@dataclass
class Attempts:
    """Counts how often each task was tried, so that retries end. A group is not tried again: its tasks are, one by one.

    Attributes:
        after_error: Attempts when the task itself raises.
        after_loss: Attempts when its worker process dies under it.
    """

    after_error: int = 1
    after_loss: int = MAX_ATTEMPTS
    _tried: Counter[str] = field(default_factory=Counter[str])

    def failed(self, task: Task, outcome: Outcome) -> Outcome | None:
        """Judge a failed outcome: None to try again, otherwise the outcome to report."""
        if isinstance(task, TaskGroup):
            return outcome
        self._tried[task.task_id] += 1
        tried = self._tried[task.task_id]
        if tried < self.after_error:
            return None
        note = f" (after {tried} attempts)" if tried > 1 else ""
        return Outcome(outcome.task_id, "failed", outcome.seconds, f"{outcome.error}{note}")

    def lost(self, task: Task, how: str) -> Outcome | None:
        """Judge a task whose worker died: None to try again, otherwise the outcome to report."""
        if isinstance(task, TaskGroup):
            _LOG.warning("%s and %d more: their worker died (%s)", task.task_id, len(task.others), how)
            return Outcome(task.task_id, "failed", 0.0, f"its worker died ({how})")
        self._tried[task.task_id] += 1
        tried = self._tried[task.task_id]
        _LOG.warning("%s: its worker died (%s), attempt %d of %d", task.task_id, how, tried, self.after_loss)
        if tried < self.after_loss:
            return None
        return Outcome(task.task_id, "failed", 0.0, f"its worker died {tried} times ({how}); out of memory?")


def describe(error: BaseException) -> str:
    """An error as text: our own messages as they are, anything else with the end of its traceback. Secrets are masked."""
    if isinstance(error, LensError):
        return redact_text(str(error))
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    return redact_text("\n".join([f"{type(error).__name__}: {error}", *lines[-_LAST_LINES:]]))
