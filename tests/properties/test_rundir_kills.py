"""A run killed before every single one of its writes, renames and removals: nothing finished is lost, nothing is suspected.

Each kill is real: a forked process ends with `os._exit`, so that no `finally` and no buffer helps. Then the run is verified,
resumed and compared with one that nobody disturbed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from refusal_lens.rundir import RunDir, retract, verify_chain, write_plan
from refusal_lens.types import Task

FIRST = Task("numbers", 1, "one", {"value": 3})
SECOND = Task("doubled", 1, "one", {}, ("numbers/one",))
PLAN = (FIRST, SECOND)
STOPPED = 9

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")]


def audit(root: Path) -> None:
    """What the driver and the report do, without the model."""
    run = RunDir.create(root, header={"seed": 0})
    with run.lock():
        run.clean_temporary()
        run.sweep()
        retract(run, [task.task_id for task in PLAN])
        write_plan(run, PLAN)
        for task in PLAN:
            if not run.is_valid(task):
                with run.writing(task) as folder:
                    (folder / f"{task.step}.txt").write_text(task.step)
                    (folder / "more.json").write_text("{}")
            run.publish(run.path(task.task_id, f"{task.step}.txt"))
        run.render({"report.html": b"<p>", "figures/a.svg": b"<svg/>"})


def killed_at(moment: int, root: Path) -> bool:
    """Run the audit in a process that dies at the given change to the disk; False when it ended before."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == STOPPED
    left = moment

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def dying(*words: object, **settings: object) -> object:
            nonlocal left
            if left == 0:
                os._exit(STOPPED)
            left -= 1
            return change(*words, **settings)

        return dying

    try:
        os.fsync = counted(os.fsync)  # already without effect, see the test
        os.write = counted(os.write)
        for name in ("replace", "rename", "unlink", "mkdir", "chmod", "write_text"):
            setattr(Path, name, counted(getattr(Path, name)))
        audit(root)
    finally:
        os._exit(0)


def content(root: Path) -> dict[str, bytes]:
    """Everything that does not hold a time."""
    folders = ("data", "tables", "figures", "report.html", "plan.json", "published.json", "rendered.json")
    paths = [path for name in folders for path in (root / name, *(root / name).rglob("*"))]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.is_file()}


def test_a_kill_before_any_change_to_the_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a kill loses no buffer of the system, and the disk is slow
    audit(tmp_path / "reference")
    reference = content(tmp_path / "reference")
    assert len(reference) == 11
    moment = 0
    while killed_at(moment, root := tmp_path / str(moment)):
        started = (root / "run.json").exists() and (root / "history.jsonl").exists()
        if started:
            run = RunDir.open(root)
            finished = {task.task_id: record for task in PLAN if (record := run.record(task.task_id)) is not None}
            assert verify_chain(run).problems == (), f"verify after a kill at change {moment}"
        audit(root)
        again = RunDir.open(root)
        assert content(root) == reference, f"resumed after a kill at change {moment}"
        assert verify_chain(again).problems == ()
        assert not (root / "aside").exists(), f"quarantined after a kill at change {moment}"
        assert not list(root.glob("tmp/*"))
        if started:
            assert all(again.record(name) == record for name, record in finished.items()), (
                "a finished task was computed anew"
            )
        moment += 1
    assert moment > 50
