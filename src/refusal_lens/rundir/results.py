"""A task's result: how it is written, all or nothing, and whether one on disk may be believed.

Writing: outputs go to `tmp/`, are flushed and hashed; the record is announced (`.json.new`), the outputs are renamed to
their place, then the record is. A kill at any point leaves either nothing that counts or all that the next run needs to
complete it. When two workers compute the same task (one outlived its driver, Ray retried), the first recorded result stands.

Believing: the record's seal is whole, its key is the task's key today, and every output has its recorded digest. Files up
to 8 MiB are hashed each time; a larger one only when its size, modification or change time differ from when it was hashed
last. That shortcut trusts the file system's clock, not the file; `refusal-lens verify` never takes it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from refusal_lens.core.digests import digest_file
from refusal_lens.core.files import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    make_folder,
    storage_refusals,
    sync_file,
    sync_folder,
)
from refusal_lens.errors import RunError
from refusal_lens.rundir.layout import Layout
from refusal_lens.rundir.records import DamagedRecordError, Record, check_name, read_record, write_record
from refusal_lens.types import Task

ALWAYS_HASH_BYTES = 8 << 20
UNKNOWN = " is foreign"
LEFT_OVER = " was scrubbed but is still there; scrub again"
_COMMIT_ATTEMPTS = 5


def believable(run: Layout, task: Task) -> bool:
    """Whether a current, intact result of the task is present; what is not goes to the quarantine. See `RunDir.is_valid`."""
    try:
        record = read_record(run.record_path(task.task_id))
    except FileNotFoundError:
        run.quarantine_task(task.task_id, "outputs without a record (interrupted before it was written, or foreign)")
        return False
    except DamagedRecordError as error:
        run.quarantine_task(task.task_id, f"record {error}")
        return False
    if record.key != run.key(task):
        run.quarantine_task(task.task_id, "superseded: its parameters or inputs changed")
        return False
    found = [line for line in problems(run, record, thorough=False) if not line.endswith(LEFT_OVER)]
    unknown = [run.folder(task.task_id) / line.removesuffix(UNKNOWN) for line in found if line.endswith(UNKNOWN)]
    if len(unknown) < len(found):
        run.quarantine_task(task.task_id, "; ".join(found))
        return False
    if unknown:
        run.quarantine(unknown, f"{task.task_id}: foreign file")
    return True


def problems(run: Layout, record: Record, *, thorough: bool) -> list[str]:
    """What is wrong with a recorded task's outputs, one line each, unknown files included; empty when all is as recorded.

    Args:
        run: The run.
        record: The task's record.
        thorough: Hash everything, whatever size and times say.

    Returns:
        The lines, by file name.
    """
    folder = run.folder(record.task_id)
    present: dict[str, os.DirEntry[str]] = {}
    if folder.is_dir() and not folder.is_symlink():
        with os.scandir(folder) as entries:
            present = {entry.name: entry for entry in entries}
    found: list[str] = []
    for name in sorted({*present, *record.outputs}):
        entry = present.get(name)
        if entry is None:
            if name not in record.scrubbed:
                found.append(f"{name} is missing")
        elif name in record.scrubbed:
            found.append(f"{name}{LEFT_OVER}")
        elif name not in record.outputs:
            found.append(f"{name}{UNKNOWN}")
        elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            found.append(f"{name} is not a plain file")
        elif not _intact(run, Path(entry.path), record, thorough=thorough):
            found.append(f"{name} does not have its recorded digest")
    return found


def _intact(run: Layout, path: Path, record: Record, *, thorough: bool) -> bool:
    now = _size_and_times(path)
    known = record.stats.get(path.name)
    large = now[0] > ALWAYS_HASH_BYTES
    if large and now == known and not thorough:
        return True
    if known is not None and known[0] != now[0]:
        return False
    same = digest_file(path) == record.outputs[path.name]
    if same and large and now != known and not thorough:
        write_record(run.record_path(record.task_id), replace(record, stats={**record.stats, path.name: now}))
    return same


def _size_and_times(path: Path) -> list[int]:
    """Size in bytes, modification and change time in nanoseconds: what must be equal to skip hashing a large file."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


@contextmanager
def writing(run: Layout, task: Task, *, seconds: float | None = None) -> Generator[Path]:
    """Give an empty private folder; make what is in it the task's result when the block ends well. See `RunDir.writing`."""
    key = run.key(task)
    if key is None:
        raise RunError(f"{run.root}: {task.task_id} started before its inputs were finished")
    started = time.monotonic()
    folder = run.root / "tmp" / f"{task.step}.{task.name}.{secrets.token_hex(6)}"
    try:
        with storage_refusals(run.folder(task.task_id), inside=run.root):
            make_folder(folder.parent, mode=PRIVATE_FOLDER)
            folder.mkdir(mode=PRIVATE_FOLDER)
            yield folder
            outputs = _close(folder)
            if not outputs:
                raise RunError(f"{task.task_id} wrote no output")
            _commit(run, task, key, folder, outputs, time.monotonic() - started if seconds is None else seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _close(folder: Path) -> dict[str, str]:
    """Flush every file, make it private and hash it; gives the digests by name."""
    outputs: dict[str, str] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() or not entry.is_file():
            raise RunError(f"{entry.name}: a task's outputs are plain files")
        check_name(entry.name)
        entry.chmod(PRIVATE_FILE)
        sync_file(entry)
        outputs[entry.name] = digest_file(entry)
    sync_folder(folder)
    return outputs


def _commit(run: Layout, task: Task, key: str, folder: Path, outputs: dict[str, str], seconds: float) -> None:
    record = Record(
        task_id=task.task_id,
        key=key,
        version=task.version,
        params=json.loads(json.dumps(dict(task.params))),
        inputs={task_id: found.digest for task_id in task.inputs if (found := run.record(task_id)) is not None},
        outputs=outputs,
        stats={name: _size_and_times(folder / name) for name in outputs},
        seconds=round(seconds, 3),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        package=version("refusal-lens"),
    )
    target, announced = run.folder(task.task_id), run.announced_path(task.task_id)
    make_folder(target.parent.parent, mode=PRIVATE_FOLDER)
    make_folder(target.parent, mode=PRIVATE_FOLDER)
    for attempt in range(_COMMIT_ATTEMPTS):  # another worker may put its result there between our look and our rename
        other = run.record(task.task_id)
        if other is not None and other.key == key and not problems(run, other, thorough=True):
            return
        run.quarantine_task(task.task_id, "replaced by a new result")
        write_record(announced, record)
        try:
            folder.rename(target)
            break
        except OSError:
            if attempt == _COMMIT_ATTEMPTS - 1 or not target.exists():
                raise
    sync_folder(target.parent)
    announced.replace(run.record_path(task.task_id))  # not flushed: the announced record is, and suffices


def finish_announced(run: Layout) -> None:
    """Complete what a kill interrupted between the outputs' rename and the record's. Call it while holding the lock."""
    for path in sorted((run.root / "tasks").glob("*/*.json.new")):
        final = path.with_suffix("")
        try:
            record = read_record(path)
        except (DamagedRecordError, FileNotFoundError):
            path.unlink(missing_ok=True)
            continue
        if not final.exists() and not problems(run, record, thorough=True):
            path.replace(final)
        else:
            path.unlink()
