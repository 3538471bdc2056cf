"""One process per run directory: the second is told who holds it.

A lock of the operating system on `RUN/lock` (by `filelock`: `flock`, on Windows `LockFileEx`) decides between processes
of one machine (and of several, where the file system carries it): it vanishes with its process, so a killed run never
blocks the next. The file's text names the holder. Because some network file systems keep such locks local to a machine,
the holder also touches the file every few seconds: a text of another host that was touched lately is believed, an old one
is taken over.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from filelock import lock_descriptor

from refusal_lens.core.files import storage_refusals
from refusal_lens.errors import RunError

HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 90.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds a run: process id, host name, and since when (ISO 8601, UTC)."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class RunLock:
    """Context manager that holds a run directory for one process; may be nested."""

    def __init__(self, path: Path) -> None:
        """Prepare the lock.

        Args:
            path: The lock file, `RUN/lock`.
        """
        self._path = path
        self._descriptor: int | None = None
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None
        self._depth = 0

    def __enter__(self) -> RunLock:
        """Take the lock.

        Returns:
            Itself.

        Raises:
            RunError: Another process holds the run; the message names it.
        """
        if self._depth:
            self._depth += 1
            return self
        with storage_refusals(self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            self._take(descriptor)
            me = Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
            with storage_refusals(self._path):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, f" {json.dumps(asdict(me))}".encode())  # the blank: see _text
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._stop.clear()
        self._beat = threading.Thread(target=self._touch, name="run-lock", daemon=True)
        self._beat.start()
        self._depth = 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock; the empty file stays, so that two waiting processes agree on one file."""
        self._depth -= 1
        if self._depth:
            return
        self._stop.set()
        if self._beat is not None:
            self._beat.join()
        if self._descriptor is not None:
            try:
                os.ftruncate(self._descriptor, 0)
            except OSError as problem:
                _LOG.warning("could not clear %s: %s", self._path, problem)
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, descriptor: int) -> None:
        holder = read_holder(self._path)
        try:
            free = lock_descriptor(descriptor, blocking=False)
        except OSError as error:
            if error.errno not in {errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS}:
                raise
            free = live_holder(self._path) is None  # a file system without locks: the text has to do
        if not free:
            raise RunError(_held(self._path, holder))
        if holder is None:
            return
        if holder.host != socket.gethostname() and _fresh(self._path):
            raise RunError(_held(self._path, holder) + f"; if that machine is gone, try again in {STALE_SECONDS:.0f} s")
        _LOG.warning("%s was left by %s, which is gone: taking over", self._path, holder)

    def _touch(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self._path)
            except OSError as problem:
                _LOG.debug("could not touch %s: %s", self._path, problem)


def read_holder(path: Path) -> Holder | None:
    """Who a lock file names, or None when it is missing, empty or unreadable."""
    try:
        data = json.loads(_text(path))
        return Holder(int(data["pid"]), str(data["host"]), str(data["since"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def live_holder(path: Path) -> Holder | None:
    """Who works behind a lock file now; None when nobody does, or the one it names is gone.

    Unlike taking the lock this disturbs nobody who is about to take it. On this machine the holder's process is looked for
    (on Windows that is not possible without a signal), elsewhere its heartbeat counts.
    """
    holder = read_holder(path)
    if holder is None:
        return None
    if holder.host != socket.gethostname() or os.name == "nt":
        return holder if _fresh(path) else None
    try:
        os.kill(holder.pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:  # somebody else's process
        return holder
    return holder


def _fresh(path: Path) -> bool:
    return time.time() - path.stat().st_mtime < STALE_SECONDS


def _text(path: Path) -> bytes:
    """A lock file's text. Windows forbids others to read the locked first byte, which therefore says nothing."""
    with path.open("rb", buffering=0) as stream:
        try:
            return stream.read()
        except PermissionError:
            stream.seek(1)
            return stream.read()


def _held(path: Path, holder: Holder | None) -> str:
    who = str(holder) if holder is not None else "another process"
    return f"{path.parent}: held by {who}; wait until it ends or stop it, then `refusal-lens resume {path.parent}`"
