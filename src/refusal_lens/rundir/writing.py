"""How a result appears: written to `tmp/`, flushed, renamed to its place, then recorded. All or nothing.

The record is announced (`.json.new`) before the outputs are renamed to their place, and renamed itself after, so that a kill
at any point leaves either nothing that counts or everything the next run needs to complete it. When two workers compute
the same task (an orphan of a killed driver, a Ray task that was retried), the first recorded result stands.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from refusal_lens.core.digests import digest_file
from refusal_lens.core.files import PRIVATE_FILE, PRIVATE_FOLDER, make_folder, storage_refusals, sync_file, sync_folder
from refusal_lens.errors import RunError
from refusal_lens.rundir.checking import problems, stat_of
from refusal_lens.rundir.records import DamagedRecordError, Record, check_name, read_record, write_record
from refusal_lens.types import Task

if TYPE_CHECKING:
    from refusal_lens.rundir.run import RunDir

ANNOUNCED = ".new"
_COMMIT_ATTEMPTS = 5


@contextmanager
def writing(run: RunDir, task: Task, key: str) -> Generator[Path]:
    """Give an empty private folder; make what is in it the task's result when the block ends well.

    Args:
        run: The run.
        task: The task.
        key: Its key.

    Yields:
        The folder.

    Raises:
        RunError: Nothing was written, or something else than plain files.
        StorageError: The storage refuses.
    """
    started = time.monotonic()
    folder = run.root / "tmp" / f"{task.step}.{task.name}.{secrets.token_hex(6)}"
    try:
        with storage_refusals(run.folder(task.task_id), inside=run.root):
            make_folder(folder.parent, mode=PRIVATE_FOLDER)
            folder.mkdir(mode=PRIVATE_FOLDER)
            yield folder
            outputs = _seal(folder)
            if not outputs:
                raise RunError(f"{task.task_id} wrote no output")
            _commit(run, task, key, folder, outputs, time.monotonic() - started)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _seal(folder: Path) -> dict[str, str]:
    """Flush every file, make it private and hash it."""
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


def _commit(run: RunDir, task: Task, key: str, folder: Path, outputs: dict[str, str], seconds: float) -> None:
    record = Record(
        task_id=task.task_id,
        key=key,
        version=task.version,
        params=json.loads(json.dumps(dict(task.params))),
        inputs={task_id: found.digest for task_id in task.inputs if (found := run.record(task_id)) is not None},
        outputs=outputs,
        stats={name: stat_of(folder / name) for name in outputs},
        seconds=round(seconds, 3),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        package=version("refusal-lens"),
    )
    target = run.folder(task.task_id)
    make_folder(target.parent.parent, mode=PRIVATE_FOLDER)
    make_folder(target.parent, mode=PRIVATE_FOLDER)
    for attempt in range(_COMMIT_ATTEMPTS):
        other = run.record(task.task_id)
        if other is not None and other.key == key and not problems(run, other, thorough=True):
            return
        run.set_aside(task.task_id, "replaced by a new result")
        write_record(announced(run, task.task_id), record)
        try:
            folder.rename(target)
            break
        except OSError:
            if attempt == _COMMIT_ATTEMPTS - 1 or not target.exists():
                raise
    sync_folder(target.parent)
    announced(run, task.task_id).replace(
        run.record_path(task.task_id)
    )  # not flushed: the announced record is, and suffices


def announced(run: RunDir, task_id: str) -> Path:
    """Where a record waits while its outputs are moved to their place."""
    path = run.record_path(task_id)
    return path.with_name(path.name + ANNOUNCED)


def finish_announced(run: RunDir) -> None:
    """Complete what a kill interrupted between the outputs' rename and the record's. Call it while holding the lock."""
    for path in sorted((run.root / "tasks").glob(f"*/*.json{ANNOUNCED}")):
        final = path.with_name(path.name.removesuffix(ANNOUNCED))
        try:
            record = read_record(path)
        except (DamagedRecordError, FileNotFoundError):
            path.unlink(missing_ok=True)
            continue
        if not final.exists() and not problems(run, record, thorough=True):
            path.replace(final)
        else:
            path.unlink()
