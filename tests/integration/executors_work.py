"""A small task graph for the executor tests: importable, so that spawned processes and Ray actors can unpickle it.

A worker's misbehaviour is asked for in the task's params, as `misbehave`: raise, die, die-once, slow, meet, full, model, tell.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from refusal_lens.core import progress
from refusal_lens.errors import ModelError
from refusal_lens.executors import Worker
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue, Task


@dataclass(frozen=True)
class Factory:
    """Picklable; notes every worker's process id and every computation in `notes`."""

    root: Path
    notes: Path
    broken: bool = False

    def __call__(self) -> Worker:
        if self.broken:
            raise ValueError("broken factory")
        self.note(f"made {os.getpid()} {os.environ.get('OMP_NUM_THREADS')}")
        return self.compute

    def at(self, run_dir: Path) -> Factory:
        """The same work in another run directory."""
        return replace(self, root=run_dir)

    def note(self, line: str) -> None:
        with self.notes.open("a") as stream:
            stream.write(line + "\n")

    def compute(self, task: Task) -> None:
        if len(task.members) > 1:
            self.note(f"group {' '.join(member.task_id for member in task.members)}")
        for member in task.members:
            self.compute_one(member)

    def compute_one(self, task: Task) -> None:
        run = RunDir.open(self.root)
        self.note(f"task {task.task_id} {os.getpid()}")
        how = task.params.get("misbehave")
        if how == "raise":
            raise ValueError("poisoned shard")
        if how == "model":
            raise ModelError("no weights in the folder")
        if how == "die" or (how == "die-once" and not (self.notes.parent / "died").exists()):
            (self.notes.parent / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "meet":
            deadline = time.monotonic() + 120
            while self.notes.read_text().count("made ") < 2:
                assert time.monotonic() < deadline, "the second worker never came"
                time.sleep(0.02)
        if how == "tell":
            time.sleep(progress.EVERY)
            progress.tell(3, 4, "parts")
            time.sleep(0.5)
        if how == "slow":
            time.sleep(0.5)
        values = [json.loads(run.path(name, "value.json").read_text()) for name in task.inputs]
        with run.writing(task) as folder:
            if how == "full":
                with Path("/dev/full").open("w") as stream:
                    stream.write("x")
            (folder / "value.json").write_text(json.dumps(task.params.get("value", sum(values))))


def plan(count: int, misbehave: dict[int, str] | None = None) -> list[Task]:
    """`count` leaves and their sum; some leaves misbehave."""
    how = misbehave or {}
    leaves: list[Task] = []
    for index in range(count):
        params: dict[str, JsonValue] = {"value": index}
        if index in how:
            params["misbehave"] = how[index]
        leaves.append(Task("leaf", 1, f"n{index}", params))
    return [*leaves, Task("sum", 1, "all", {}, tuple(leaf.task_id for leaf in leaves))]
