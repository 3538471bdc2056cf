"""Workers as Ray actors, on this machine or a cluster; each holds the model.

A task goes only to an actor that has answered a ping, so an actor that cannot be placed yet holds nothing up. An actor
that dies (process killed, node lost, out of memory) is replaced; its task, like one that raises, is tried three times in all
and then reported, while the rest completes. Outputs go through the run directory, never through Ray: a driver that dies
loses nothing that was finished. Every node needs this package, the model and the prompts under the same paths.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import RayError, RayTaskError

from refusal_lens.core.redact import redact_text
from refusal_lens.errors import ExecutionError, LensError, UserError
from refusal_lens.executors.base import (
    MAX_ATTEMPTS,
    Attempts,
    OnAdvance,
    Session,
    Worker,
    WorkerFactory,
    describe,
    run_one,
)
from refusal_lens.types import Advance, Outcome, Task

_Actor: TypeAlias = "ActorProxy[Holder]"
_BoardActor: TypeAlias = "ActorProxy[Board]"
_Held: TypeAlias = "tuple[_Actor, Task | None]"
_Reference: TypeAlias = "ray.ObjectRef[Outcome | None]"

_LOG = logging.getLogger(__name__)
_WAIT_SECONDS, _LOOK_SECONDS = 30.0, 5.0
_GIVE_UP_SECONDS = 600.0
_INIT_HINT = "is the cluster up? `ray status --address ADDRESS` tells"
_ADDRESS = re.compile(r"(?:ray://)?\[?(?P<host>[^\s/]+?)\]?:(?P<port>\d{1,5})")
_ANSWER_SECONDS = 10.0


class Board:
    """An actor that keeps what workers last said of how far they are, until the driver asks."""

    def __init__(self) -> None:
        """Nothing was said."""
        self._said: dict[str, Advance] = {}

    @ray.method
    def note(self, advance: Advance) -> None:
        """Keep it in place of what the task said before."""
        self._said[advance.task_id] = advance

    @ray.method
    def take(self) -> list[Advance]:
        """What was said since the last question."""
        said, self._said = list(self._said.values()), {}
        return said


class Holder:
    """The actor: one process that holds a worker."""

    def __init__(self, factory: WorkerFactory, board: _BoardActor | None = None) -> None:
        """Keep the factory; the worker is made when the first task comes."""
        self._factory = factory
        self._board = board
        self._worker: Worker | None = None

    @ray.method
    def run(self, task: Task | None) -> Outcome | None:
        """Compute one task; None only asks whether the process is up."""
        if task is None:
            return None
        if self._worker is None:
            self._worker = self._factory()
        return run_one(self._worker, task, self._note)

    def _note(self, advance: Advance) -> None:
        if self._board is not None:
            self._board.note.remote(advance)


_REMOTE_HOLDER, _REMOTE_BOARD = ray.remote(Holder), ray.remote(Board)


def check_address(address: str) -> None:
    """See whether anything listens at an address; Ray itself keeps trying for a quarter of an hour.

    Args:
        address: `HOST:PORT` or `ray://HOST:PORT`; any other form is left to Ray.

    Raises:
        UserError: Nothing answers there.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return
    try:
        socket.create_connection((found["host"], int(found["port"])), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"--address {address}: no Ray cluster answers ({error}); {_INIT_HINT}") from None


@dataclass(frozen=True)
class RayExecutor:
    """Runs tasks in Ray actors.

    Attributes:
        workers: Number of actors.
        address: Address of a running cluster; None starts one on this machine for the time of the session.
        gpus_per_worker: GPUs each actor reserves; may be a fraction.
        on_advance: Told how far running tasks are, every few seconds.
    """

    workers: int
    address: str | None = None
    gpus_per_worker: float = 0.0
    on_advance: OnAdvance | None = None

    @contextmanager
    def session(self, worker_factory: WorkerFactory) -> Generator[Session]:
        """Connect to the cluster and place the actors.

        Args:
            worker_factory: Called in each actor when its first task comes.

        Yields:
            The session; its actors are gone afterwards, and the cluster too when it was started here.

        Raises:
            UserError: The cluster cannot be reached or has too few GPUs for one worker.
        """
        mine = not ray.is_initialized()
        if mine:
            self._connect()
        try:
            self._check_gpus()
            session = _RaySession(worker_factory, self)
            try:
                yield session
            finally:
                session.close()
        finally:
            if mine:
                ray.shutdown()

    def _connect(self) -> None:
        try:
            if self.address is None:
                ray.init(num_cpus=self.workers, include_dashboard=False, log_to_driver=False)
            else:
                ray.init(address=self.address, log_to_driver=False)
        except (ConnectionError, RayError, ValueError, RuntimeError) as error:
            raise UserError(f"--address {self.address}: no Ray cluster answers ({error}); {_INIT_HINT}") from error

    def _check_gpus(self) -> None:
        have = float(ray.cluster_resources().get("GPU", 0.0))
        if self.gpus_per_worker > have:
            raise UserError(f"--gpus-per-worker {self.gpus_per_worker:g}: the cluster has {have:g} GPUs")


@dataclass
class _RaySession:
    factory: WorkerFactory
    executor: RayExecutor
    attempts: Attempts = field(default_factory=lambda: Attempts(after_error=MAX_ATTEMPTS))
    waiting: deque[Task] = field(default_factory=deque[Task])
    failed_starts: int = 0
    idle: list[_Actor] = field(default_factory=list["_Actor"])
    running: dict[_Reference, _Held] = field(default_factory=dict["_Reference", "_Held"])
    board: _BoardActor | None = None
    asked: ray.ObjectRef[list[Advance]] | None = None

    def __post_init__(self) -> None:
        """A board only where somebody wants to know."""
        if self.executor.on_advance is not None:
            self.board = _REMOTE_BOARD.options(num_cpus=0).remote()

    @property
    def capacity(self) -> int:
        return self.executor.workers

    def submit(self, task: Task) -> None:
        self.waiting.append(task)

    def next_outcome(self) -> Outcome:
        quiet_since = time.monotonic()
        while True:
            self._fill()
            wait = _WAIT_SECONDS if self.board is None else _LOOK_SECONDS
            ready, _ = ray.wait(list(self.running), num_returns=1, timeout=wait)
            self._look()
            if any(task is not None for _, task in self.running.values()):
                quiet_since = time.monotonic()
            for reference in ready:
                outcome = self._settle(reference)
                if outcome is not None:
                    return outcome
            if time.monotonic() - quiet_since > _GIVE_UP_SECONDS:
                have = ray.cluster_resources()
                raise ExecutionError(f"no worker could be placed in {_GIVE_UP_SECONDS:.0f} s; the cluster has {have}")

    def _look(self) -> None:
        """Pass on what workers said, without waiting for it; a board that is gone takes nothing but the progress with it."""
        if self.board is None or self.executor.on_advance is None:
            return
        if self.asked is None:
            self.asked = self.board.take.remote()
        if not ray.wait([self.asked], timeout=0)[0]:
            return
        try:
            said, self.asked = ray.get(self.asked), None
        except RayError:
            self.board = None
            return
        at_work = {task.task_id for _, task in self.running.values() if task is not None}
        for advance in said:
            if advance.task_id in at_work:
                self.executor.on_advance(advance)

    def close(self) -> None:
        if self.board is not None:
            ray.kill(cast("ActorHandle[Board]", self.board))
        for actor in [*self.idle, *(actor for actor, _ in self.running.values())]:
            ray.kill(cast("ActorHandle[Holder]", actor))

    def _fill(self) -> None:
        tasks = len(self.waiting) + sum(task is not None for _, task in self.running.values())
        for _ in range(min(self.executor.workers, tasks) - len(self.idle) - len(self.running)):
            options = _REMOTE_HOLDER.options(num_cpus=1, num_gpus=self.executor.gpus_per_worker, max_restarts=0)
            actor = options.remote(self.factory, self.board)
            self.running[actor.run.remote(None)] = (actor, None)
        while self.waiting and self.idle:
            actor, task = self.idle.pop(), self.waiting.popleft()
            self.running[actor.run.remote(task)] = (actor, task)

    def _settle(self, reference: _Reference) -> Outcome | None:
        actor, task = self.running.pop(reference)
        try:
            outcome = ray.get(reference)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, LensError):
                raise cause from error
            raise ExecutionError(f"a worker cannot start: {describe(cause)}") from error
        except RayError as error:
            if task is None:
                self.failed_starts += 1
                _LOG.warning("a worker died while starting: %s", error)
                if self.failed_starts >= MAX_ATTEMPTS * self.executor.workers:
                    raise ExecutionError(f"workers die while starting: {redact_text(str(error))}") from error
                return None
            lost = self.attempts.lost(task, _first_line(error))
            if lost is None:
                self.waiting.appendleft(task)
            return lost
        self.failed_starts = 0
        self.idle.append(actor)
        if task is None or outcome is None or outcome.status == "done":
            return outcome
        final = self.attempts.failed(task, outcome)
        if final is None:
            self.waiting.append(task)
        return final


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
