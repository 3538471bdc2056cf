"""What a run directory needs of the operating system: nothing that only POSIX has, and a lock by a portable library."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from refusal_lens.errors import RunError
from refusal_lens.rundir import Holder, RunDir, live_holder, lock, read_holder

WITHOUT_POSIX = """
import os, signal, sys
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules[name] = None  # an import fails as on Windows
for name in ("fork", "getuid", "pwrite", "pread", "fchmod", "killpg", "sched_getaffinity"):
    delattr(os, name)
del signal.SIGKILL, signal.SIGHUP
from pathlib import Path
from refusal_lens.executors import get_executor, pool
from refusal_lens.rundir import RunDir, lock, scrub, verify_chain, write_plan
from refusal_lens.types import Task
if len(sys.argv) > 2:
    lock.lock_descriptor = lambda descriptor, *, blocking: True  # on Windows filelock has one of its own
    task = Task("step", 1, "name")
    run = RunDir.create(Path(sys.argv[1]), header={})
    def work(task):
        with run.writing(task) as folder:
            (folder / "out.txt").write_text("x")
    with run.lock(), get_executor("local").session(lambda: work) as session:
        write_plan(run, [task])
        session.submit(task)
        assert session.next_outcome().status == "done"
        assert run.is_valid(task)
        run.publish(run.path("step/name", "out.txt"))
        run.render({"report.html": b"<p>"})
    assert verify_chain(run).problems == ()
    scrub(run)
"""


@pytest.mark.parametrize("use", [(), ("use",)], ids=["import", "use"])
def test_nothing_is_imported_or_used_that_windows_lacks(tmp_path: Path, use: tuple[str, ...]) -> None:
    words = [sys.executable, "-c", WITHOUT_POSIX, str(tmp_path / "run"), *use]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", header={})


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_without_locks_in_the_file_system_the_named_holder_decides(
    run: RunDir, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object, **__: object) -> bool:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(lock, "lock_descriptor", unsupported)
    with run.lock(), pytest.raises(RunError, match=f"held by process {os.getpid()}"), RunDir.open(run.root).lock():
        pass
    with run.lock():
        pass


def test_who_works_here_now(run: RunDir) -> None:
    path = run.root / "lock"
    assert live_holder(path) is None
    with run.lock():
        assert live_holder(path) == Holder(os.getpid(), socket.gethostname(), read_holder(path).since)  # type: ignore[union-attr]
        os.utime(path, (0, 0))
        assert live_holder(path) is not None  # stopped with Ctrl-Z, not gone
    assert live_holder(path) is None


@pytest.mark.parametrize(("host", "age", "works"), [("here", 0, False), ("other", 0, True), ("other", 1000, False)])
def test_a_dead_holder_is_known_as_dead(run: RunDir, host: str, age: float, works: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    name = socket.gethostname() if host == "here" else host
    path = run.root / "lock"
    path.write_text(json.dumps({"pid": dead.pid, "host": name, "since": "2026-01-01T00:00:00+00:00"}))
    os.utime(path, (time.time() - age,) * 2)
    assert (live_holder(path) is not None) == works


def test_a_lock_whose_first_byte_cannot_be_read_still_names_its_holder(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses a read that overlaps the locked byte."""
    from io import FileIO

    class Guarded(FileIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() == 0:
                raise PermissionError(errno.EACCES, "locked")
            return super().read(-1 if size is None else size)

    with run.lock():
        monkeypatch.setattr(Path, "open", lambda path, *_, **__: Guarded(path))
        assert read_holder(run.root / "lock") is not None
