"""Driving the zygote: start commands, kill them, compare the tables they leave."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path


class Zygote:
    """Forks `refusal-lens` commands from one warm process."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("reliability_zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def run(
        self,
        *words: str | Path,
        when: Callable[[], bool] | None = None,
        how: int = signal.SIGKILL,
    ) -> int:
        """Run a command.

        Args:
            words: The command line after `refusal-lens`.
            when: Asked every 10 ms; when it says yes, the command's process group gets a signal, once.
            how: The signal.

        Returns:
            The exit code, negative for a signal.
        """
        assert self.process.stdin is not None
        request = {"words": [str(word) for word in words], "log": str(self.log)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        pid = int(self._read().split()[1])
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(pid, how, when, ended)) if when is not None else None
        if watcher is not None:
            watcher.start()
        code = int(self._read().split()[2])
        ended.set()
        if watcher is not None:
            watcher.join()
        return code

    def output(self) -> str:
        """What the commands printed so far, stdout and stderr together."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def close(self) -> None:
        """End the zygote."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def _watch(pid: int, how: int, when: Callable[[], bool], ended: threading.Event) -> None:
    while not ended.wait(0.01):
        if when():
            try:
                os.killpg(pid, how)
            except ProcessLookupError:
                return
            return


def count_finished(run: Path) -> int:
    """How many tasks have a record."""
    return sum(1 for _ in (run / "tasks").glob("*/*.json"))


def digests(run: Path, folder: str = "tables") -> dict[str, str]:
    """SHA-256 of every file in a folder of the run."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((run / folder).rglob("*"))
        if path.is_file()
    }


def records(run: Path) -> dict[str, tuple[str, str]]:
    """Key and finishing time of every finished task."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted((run / "tasks").glob("*/*.json")):
        content = json.loads(path.read_text())
        found[f"{path.parent.name}/{path.stem}"] = (content["key"], content["finished_at"] + str(content["seconds"]))
    return found
