"""The reference executor: tasks one after another in this process.

Every other executor must leave the same files behind as this one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from refusal_lens.executors.base import Session, Worker, WorkerFactory, run_one
from refusal_lens.types import Outcome, Task


@dataclass
class _SequentialSession:
    factory: WorkerFactory
    waiting: deque[Task] = field(default_factory=deque[Task])
    worker: Worker | None = None
    capacity: int = 1

    def submit(self, task: Task) -> None:
        self.waiting.append(task)

    def next_outcome(self) -> Outcome:
        if self.worker is None:
            self.worker = self.factory()
        return run_one(self.worker, self.waiting.popleft())


@dataclass(frozen=True)
class SequentialExecutor:
    """Runs tasks in this process, in the order they become ready. The worker is made when the first task comes."""

    @contextmanager
    def session(self, worker_factory: WorkerFactory) -> Generator[Session]:
        """One worker in this process.

        Args:
            worker_factory: Called at the first task; what it raises passes through.

        Yields:
            The session.
        """
        yield _SequentialSession(worker_factory)
