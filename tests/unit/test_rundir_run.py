"""The run directory: keys, atomic results, damage, supersession, locks."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from refusal_lens.errors import RunError
from refusal_lens.rundir import RunDir, StorageError, verify_chain, write_plan
from refusal_lens.rundir.verifying import unknown_files
from refusal_lens.types import Task

FIRST = Task("numbers", 1, "one", {"value": 3})
SECOND = Task("doubled", 1, "one", {}, ("numbers/one",))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run", header={"seed": 0})


def compute(run: RunDir, task: Task, text: str = "3\n") -> None:
    with run.writing(task) as folder:
        (folder / "out.txt").write_text(text)


def test_a_finished_task_is_valid_and_its_file_found(run: RunDir) -> None:
    assert not run.is_valid(FIRST)
    compute(run, FIRST)
    assert run.is_valid(FIRST)
    assert run.path("numbers/one", "out.txt").read_text() == "3\n"
    assert RunDir.open(run.root).is_valid(FIRST)


def test_the_key_changes_with_params_version_and_input_content_only(run: RunDir) -> None:
    compute(run, FIRST)
    compute(run, SECOND, "6\n")
    before = run.key(SECOND)
    assert not run.is_valid(Task("numbers", 2, "one", {"value": 3}))
    compute(run, FIRST, "3\n")
    assert run.key(SECOND) == before
    assert run.is_valid(SECOND)
    run.quarantine_task("numbers/one", "test")
    assert run.key(SECOND) is None
    compute(run, FIRST, "4\n")
    assert run.key(SECOND) != before
    assert not run.is_valid(SECOND)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "record", "swap", "link", "append"])
def test_damage_is_found_and_set_aside(run: RunDir, damage: str, tmp_path: Path) -> None:
    compute(run, FIRST)
    file, record = run.path("numbers/one", "out.txt"), run.record_path("numbers/one")
    if damage == "flip":
        times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
        file.write_text("4\n")
        os.utime(file, ns=times)
    elif damage == "truncate":
        file.write_text("")
    elif damage == "remove":
        file.unlink()
    elif damage == "append":
        file.write_text("3\n\n")
    elif damage == "record":
        record.write_text(record.read_text().replace('"seconds"', '"sekunden"'))
    elif damage == "swap":
        record.write_text(record.read_text().replace('"value": 3', '"value": 4'))
    else:
        (tmp_path / "elsewhere").write_text("3\n")
        file.unlink()
        file.symlink_to(tmp_path / "elsewhere")
    assert not run.is_valid(FIRST)
    aside = list((run.root / "aside").glob("*/REASON"))
    assert len(aside) == 1
    assert "numbers/one" in aside[0].read_text()
    assert not run.folder("numbers/one").exists()
    compute(run, FIRST)
    assert run.is_valid(FIRST)


def test_a_foreign_file_is_set_aside_and_the_result_stays(run: RunDir) -> None:
    compute(run, FIRST)
    (run.folder("numbers/one") / "guest.bin").write_bytes(b"x")
    assert run.is_valid(FIRST)
    assert not (run.folder("numbers/one") / "guest.bin").exists()
    assert len(list((run.root / "aside").glob("*/data/numbers/one/guest.bin"))) == 1


def test_an_error_leaves_nothing(run: RunDir) -> None:
    with pytest.raises(ZeroDivisionError), run.writing(FIRST) as folder:
        (folder / "out.txt").write_text("half")
        raise ZeroDivisionError
    assert not run.is_valid(FIRST)
    assert list((run.root / "tmp").iterdir()) == []
    assert not (run.root / "aside").exists()


def test_a_kill_between_the_renames_loses_nothing(run: RunDir) -> None:
    compute(run, FIRST)
    record = run.record_path("numbers/one")
    waiting = record.with_name(record.name + ".new")
    record.rename(waiting)
    assert verify_chain(run).problems == ()
    run.clean_temporary()
    assert run.is_valid(FIRST)
    record.rename(waiting)
    (run.folder("numbers/one") / "out.txt").write_text("4\n")
    run.clean_temporary()
    assert not waiting.exists()
    assert not run.is_valid(FIRST)


def test_outputs_are_private(run: RunDir) -> None:
    compute(run, FIRST)
    file = run.path("numbers/one", "out.txt")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (file.parent, run.root / "data", run.root / "data" / "numbers"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_second_process_is_told_who_holds_the_run(run: RunDir) -> None:
    script = f"from refusal_lens.rundir import RunDir\nwith RunDir.open({str(run.root)!r}).lock():\n  pass"
    with run.lock():
        second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"held by process {os.getpid()} on " in second.stderr
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_killed_holder_does_not_block(run: RunDir) -> None:
    script = f"""
import sys, time
from refusal_lens.rundir import RunDir
with RunDir.open({str(run.root)!r}).lock():
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(RunError, match=f"process {holder.pid} on"), run.lock():
            pass
        holder.kill()
        holder.wait()
    with run.lock():
        pass


def test_a_fresh_holder_on_another_host_is_believed_and_an_old_one_not(run: RunDir) -> None:
    lock = run.root / "lock"
    lock.write_text(json.dumps({"pid": 7, "host": "other-node", "since": "2026-01-01T00:00:00+00:00"}))
    with pytest.raises(RunError, match="process 7 on other-node"), run.lock():
        pass
    os.utime(lock, (0, 0))
    with run.lock():
        pass


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="holds no run"):
        RunDir.create(tmp_path, header={})
    with pytest.raises(RunError, match="no run here"):
        RunDir.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


BROKEN = ["", "{", "[]", "null", '{"schema_version": 99}', "\x00\xff", '{"seed": 1, "schema_version": 1}']


@pytest.mark.parametrize("content", BROKEN)
def test_a_damaged_header_is_replaced_by_its_copy_or_named(run: RunDir, content: str) -> None:
    (run.root / "run.json").write_text(content)
    assert RunDir.open(run.root).header["seed"] == 0
    (run.root / "history.jsonl").write_text(content)
    with pytest.raises(RunError, match=r"run\.json"):
        RunDir.open(run.root)
    assert RunDir.create(run.root, header={"seed": 0}).header["seed"] == 0
    assert RunDir.open(run.root).header["seed"] == 0
    assert len(list((run.root / "aside").glob("*/run.json"))) == 1


def test_a_flipped_setting_is_noticed(run: RunDir) -> None:
    path = run.root / "run.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert RunDir.open(run.root).header["seed"] == 0


def test_a_new_header_keeps_the_old_one(run: RunDir) -> None:
    RunDir.create(run.root, header={"seed": 1})
    RunDir.create(run.root, header={"seed": 1})
    assert RunDir.open(run.root).header["seed"] == 1
    assert [json.loads(line)["seed"] for line in (run.root / "history.jsonl").read_text().splitlines()] == [0, 1]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a\x00b", "x" * 300])
def test_names_never_leave_the_run(run: RunDir, name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        run.folder(f"step/{name}")


def test_a_full_disk_says_so(run: RunDir) -> None:
    with (
        pytest.raises(StorageError, match="disk is full"),
        run.writing(FIRST) as folder,
        Path("/dev/full").open("w") as stream,
    ):
        assert folder.is_dir()
        stream.write("x")
    assert not run.is_valid(FIRST)


def test_a_table_that_a_kill_left_unlisted_is_no_fault_and_a_foreign_one_is(run: RunDir) -> None:
    compute(run, FIRST)
    run.tables_dir.mkdir()
    table = run.tables_dir / "out.txt"
    table.write_bytes(run.path("numbers/one", "out.txt").read_bytes())  # killed before published.json was written
    assert list(unknown_files(run)) == []
    table.write_text("4\n")
    assert [path for path, _ in unknown_files(run)] == [table]


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_list_of_tables_is_no_interrupted_publishing(run: RunDir, damage: str) -> None:
    with run.writing(FIRST) as folder:
        (folder / "a.txt").write_text("1\n")
        (folder / "b.txt").write_text("2\n")
    for name in ("a.txt", "b.txt"):
        run.publish(run.path("numbers/one", name))
    listed = run.root / "published.json"
    listed.write_bytes(listed.read_bytes()[:20])
    if damage == "gone":
        listed.unlink()
    told = "\n".join(verify_chain(run).problems)
    assert "tables/a.txt" in told
    assert ("published.json" in told) == (damage == "cut")


def test_a_missing_plan_and_a_damaged_history_are_named_and_mended(run: RunDir) -> None:
    compute(run, FIRST)
    write_plan(run, [FIRST])
    history = run.root / "history.jsonl"
    assert not verify_chain(run).problems
    run.plan_path.unlink()
    history.write_text(history.read_text().replace('"seed": 0', '"seed": 1'))
    assert [line.split(": ")[-1] for line in verify_chain(run).problems] == [
        "line 1 was altered after it was written",
        "is missing",
    ]
    again = RunDir.create(run.root, header={"seed": 0})
    write_plan(again, [FIRST])
    assert not verify_chain(again).problems and again.is_valid(FIRST)
    assert [path.name for path in (run.root / "aside").glob("*/*.jsonl")] == ["history.jsonl"]


@pytest.mark.parametrize("folder", ["data", "tasks"])
def test_a_foreign_file_beside_the_steps_is_named(run: RunDir, folder: str) -> None:
    compute(run, FIRST)
    write_plan(run, [FIRST])
    (run.root / folder / "guest.bin").write_bytes(b"x")
    assert verify_chain(run).problems == (f"{folder}/guest.bin: foreign",)
    run.sweep()
    assert not verify_chain(run).problems
