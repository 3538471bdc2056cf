"""Several worker processes on this machine, each with its own model.

Processes are spawned, not forked (torch and tokenizers do not survive a fork); the cores are divided between them. A worker
that dies is replaced and its task tried again, three times at most; the others go on. Workers ignore Ctrl-C (the driver
decides) and end when the driver is gone, however it went. A pipe per worker says exactly which task died with it, which
a shared queue cannot.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeAlias, cast

from refusal_lens.errors import ExecutionError, LensError
from refusal_lens.executors.base import Attempts, OnAdvance, Session, Worker, WorkerFactory, describe, run_one
from refusal_lens.types import Advance, Outcome, Task

_Message: TypeAlias = "Advance | Outcome | LensError"
_JOIN_SECONDS = 5.0
_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class PoolExecutor:
    """Runs tasks in `workers` processes on this machine."""

    workers: int
    on_advance: OnAdvance | None = None

    @contextmanager
    def session(self, worker_factory: WorkerFactory) -> Generator[Session]:
        """Start the processes.

        Args:
            worker_factory: Called in each process when its first task comes.

        Yields:
            The session; its processes are gone afterwards.
        """
        session = _PoolSession(worker_factory, self.workers, self.on_advance)
        try:
            yield session
        finally:
            session.close()


@dataclass
class _Slot:
    """One process, the pipe to it, and the task it holds."""

    process: SpawnProcess
    pipe: Connection[Task, _Message]
    task: Task | None = None


@dataclass
class _PoolSession:
    factory: WorkerFactory
    workers: int
    on_advance: OnAdvance | None = None
    attempts: Attempts = field(default_factory=Attempts)
    waiting: deque[Task] = field(default_factory=deque[Task])
    slots: list[_Slot] = field(default_factory=list[_Slot])

    @property
    def capacity(self) -> int:
        return self.workers

    def submit(self, task: Task) -> None:
        self.waiting.append(task)
        self._dispatch()

    def next_outcome(self) -> Outcome:
        while True:
            self._dispatch()
            busy = [slot for slot in self.slots if slot.task is not None]
            ready = wait([slot.pipe for slot in busy])
            for slot in busy:
                if slot.pipe in ready:
                    outcome = self._receive(slot)
                    if outcome is not None:
                        return outcome

    def close(self) -> None:
        for slot in self.slots:
            slot.pipe.close()
            if slot.task is not None:
                slot.process.kill()
        for slot in self.slots:
            slot.process.join(_JOIN_SECONDS)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
        self.slots.clear()

    def _dispatch(self) -> None:
        while self.waiting:
            slot = next((slot for slot in self.slots if slot.task is None), None)
            if slot is None:
                if len(self.slots) >= self.workers:
                    return
                slot = self._start()
                self.slots.append(slot)
            task = self.waiting.popleft()
            slot.task = task
            with suppress(
                BrokenPipeError
            ):  # a worker that died idle: noticed, and its task repeated, when its pipe is read
                slot.pipe.send(task)

    def _receive(self, slot: _Slot) -> Outcome | None:
        task = slot.task
        assert task is not None
        try:
            message = slot.pipe.recv()
        except (EOFError, ConnectionResetError):
            slot.process.join()
            self.slots.remove(slot)
            outcome = self.attempts.lost(task, _how(slot.process.exitcode))
            if outcome is None:
                self.waiting.appendleft(task)
            return outcome
        if isinstance(message, Advance):
            if self.on_advance is not None:
                self.on_advance(message)
            return None
        slot.task = None
        if isinstance(message, LensError):
            raise message
        if message.status == "failed":
            outcome = self.attempts.failed(task, message)
            if outcome is None:
                self.waiting.append(task)
            return outcome
        return message

    def _start(self) -> _Slot:
        context = multiprocessing.get_context("spawn")
        here, there = cast("tuple[Connection[Task, _Message], Connection[_Message, Task]]", context.Pipe())
        with _thread_share(self.workers):
            process = context.Process(target=serve, args=(there, self.factory), daemon=True, name="refusal-lens-worker")
            process.start()
        there.close()
        return _Slot(process, here)


def serve(pipe: Connection[_Message, Task], factory: WorkerFactory) -> None:
    """Body of a worker process: compute tasks from the pipe until it closes.

    Args:
        pipe: Tasks come in; outcomes, or an error that concerns the whole run, go out.
        factory: Makes the worker when the first task comes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True, name="parent-watch").start()
    worker: Worker | None = None
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            if worker is None:
                worker = factory()
            pipe.send(run_one(worker, task, pipe.send))
        except LensError as error:
            pipe.send(error)
        except Exception as error:  # noqa: BLE001  the factory is foreign code; its failure must reach the driver
            pipe.send(ExecutionError(f"a worker cannot start: {describe(error)}"))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _thread_share(workers: int) -> Generator[None]:
    """While processes start, tell them their share of the cores, unless the user has decided already."""
    if _THREADS in os.environ:
        yield
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ[_THREADS] = str(max(1, cores // workers))
    try:
        yield
    finally:
        del os.environ[_THREADS]


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"
