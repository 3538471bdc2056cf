"""Whether a result on disk may be believed: record sealed, key current, every output as its digest says.

Every file up to 8 MiB is hashed each time; a larger one only when its size, modification or change time differ from when
it was hashed last. The fast path trusts the file system's clock, not the file; `refusal-lens verify` never takes it.
What fails is moved to `aside/`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from refusal_lens.core.digests import digest_file
from refusal_lens.rundir.records import DamagedRecordError, Record, read_record, with_stats, write_record
from refusal_lens.types import Task

if TYPE_CHECKING:
    from refusal_lens.rundir.run import RunDir

ALWAYS_HASH_BYTES = 8 << 20
FOREIGN = " is foreign"
LEFT_OVER = " was scrubbed but is still there; scrub again"


def believable(run: RunDir, task: Task) -> bool:
    """Whether a current, intact result of the task is present; what is not is set aside.

    Args:
        run: The run; hold its lock.
        task: The task, its inputs judged before it.

    Returns:
        True when nothing needs computing.
    """
    try:
        record = read_record(run.record_path(task.task_id))
    except FileNotFoundError:
        run.set_aside(task.task_id, "outputs without a record (interrupted before it was written, or foreign)")
        return False
    except DamagedRecordError as error:
        run.set_aside(task.task_id, f"record {error}")
        return False
    if record.key != run.key(task):
        run.set_aside(task.task_id, "superseded: its parameters or inputs changed")
        return False
    found = [line for line in problems(run, record, thorough=False) if not line.endswith(LEFT_OVER)]
    foreign = [run.folder(task.task_id) / line.removesuffix(FOREIGN) for line in found if line.endswith(FOREIGN)]
    if len(foreign) < len(found):
        run.set_aside(task.task_id, "; ".join(found))
        return False
    if foreign:
        run.move_aside(foreign, f"{task.task_id}: foreign file")
    return True


def problems(run: RunDir, record: Record, *, thorough: bool) -> list[str]:
    """What is wrong with a recorded task's outputs, one line each; foreign files included.

    Args:
        run: The run.
        record: The task's record.
        thorough: Hash everything, whatever the size and times say.

    Returns:
        Empty when all is as recorded.
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
            found.append(f"{name}{FOREIGN}")
        elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            found.append(f"{name} is not a plain file")
        elif not _intact(run, Path(entry.path), record, thorough=thorough):
            found.append(f"{name} does not have its recorded digest")
    return found


def stat_of(path: Path) -> list[int]:
    """Size in bytes, modification and change time in nanoseconds: what must be equal for the fast path."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _intact(run: RunDir, path: Path, record: Record, *, thorough: bool) -> bool:
    now = stat_of(path)
    known = record.stats.get(path.name)
    large = now[0] > ALWAYS_HASH_BYTES
    if large and now == known and not thorough:
        return True
    if known is not None and known[0] != now[0]:
        return False
    same = digest_file(path) == record.outputs[path.name]
    if same and large and now != known and not thorough:
        write_record(run.record_path(record.task_id), with_stats(record, {**record.stats, path.name: now}))
    return same
