"""The run directory: the only place that knows where a run's files lie and whether they may be believed.

A task's result is believed when its record is sealed, its key is the task's key today, and every output has the recorded
digest. Whatever fails that is moved to `aside/` (never deleted) and computed again. A result appears in one step: written
to `tmp/`, flushed, renamed to `data/<step>/<name>/`, then recorded; a kill in between leaves an unrecorded folder, which
the next run does not believe. This module does not decide what to compute (pipeline) or where (executors).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from refusal_lens.errors import RunError
from refusal_lens.rundir.aside import move_aside
from refusal_lens.rundir.digests import digest_file, task_key
from refusal_lens.rundir.files import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    PUBLIC_FILE,
    make_folder,
    pretty_json,
    read_object,
    storage_errors,
    sync_file,
    sync_folder,
    write_atomic,
)
from refusal_lens.rundir.lock import RunLock
from refusal_lens.rundir.published import publish
from refusal_lens.rundir.records import (
    DamagedRecordError,
    Record,
    check_name,
    read_record,
    split_id,
    with_stats,
    write_record,
)
from refusal_lens.rundir.redact import redact
from refusal_lens.types import JsonValue, Task

SCHEMA_VERSION = 1
ALWAYS_HASH_BYTES = 8 << 20
_COMMIT_ATTEMPTS = 5


class RunDir:
    """One run on disk. Cheap to open; every process (driver, worker, report) opens it by path for itself."""

    def __init__(self, root: Path, header: Mapping[str, JsonValue]) -> None:
        """Use `create` or `open` instead."""
        self.root = root
        self.header = header
        self._lock = RunLock(root / "lock")

    @classmethod
    def create(cls, path: Path | str, *, header: Mapping[str, JsonValue]) -> RunDir:
        """Make a run directory, or open an existing one and bring its header up to date.

        Args:
            path: New or empty folder, or an existing run.
            header: What `run.json` says (config, command line, versions, digests); secrets in it are masked.

        Returns:
            The run.

        Raises:
            RunError: The folder holds something else, or an unreadable run.
            StorageError: The storage refuses to write.
        """
        root = Path(path).absolute()
        with storage_errors(root):
            if root.exists() and not root.is_dir():
                raise RunError(f"{root}: is a file; name a folder for the run")
            if (
                root.is_dir()
                and not (root / "run.json").exists()
                and any(root.iterdir())
                and not (root / "lock").exists()
            ):
                raise RunError(f"{root}: exists, is not empty and holds no run; name a new folder")
            make_folder(root)
        content = redact({**header, "schema_version": SCHEMA_VERSION})
        assert isinstance(content, dict)
        run = cls(root, content)
        if (root / "run.json").exists():
            before = cls.open(root).header
            if dict(before) == content:
                return run
            run.append_history(before)
        write_atomic(root / "run.json", pretty_json(content), mode=PUBLIC_FILE)
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunDir:
        """Open an existing run.

        Raises:
            RunError: There is no run, or its `run.json` is damaged or of another layout.
        """
        root = Path(path).absolute()
        file = root / "run.json"
        if not file.is_file():
            raise RunError(f"{root}: no run here (no run.json); `refusal-lens audit MODEL --out {root}` makes one")
        header = read_object(file)
        if header.get("schema_version") != SCHEMA_VERSION:
            raise RunError(f"{file}: layout {header.get('schema_version')!r}, this version reads {SCHEMA_VERSION}")
        return cls(root, header)

    @property
    def tables_dir(self) -> Path:
        """Folder of the final tables."""
        return self.root / "tables"

    @property
    def figures_dir(self) -> Path:
        """Folder of the figures."""
        return self.root / "figures"

    @property
    def report_path(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"

    @property
    def plan_path(self) -> Path:
        """The tasks as last planned."""
        return self.root / "plan.json"

    def lock(self) -> RunLock:
        """Context manager that holds the run for this process; RunError names another holder. May be nested."""
        return self._lock

    def folder(self, task_id: str) -> Path:
        """Where a task's outputs lie, finished or not."""
        step, name = split_id(task_id)
        return self.root / "data" / step / name

    def record_path(self, task_id: str) -> Path:
        """Where a task's record lies."""
        step, name = split_id(task_id)
        return self.root / "tasks" / step / f"{name}.json"

    def record(self, task_id: str) -> Record | None:
        """A finished task's record; None when there is none or it cannot be believed."""
        try:
            return read_record(self.record_path(task_id))
        except (FileNotFoundError, DamagedRecordError):
            return None

    def path(self, task_id: str, filename: str) -> Path:
        """A finished task's output file.

        Args:
            task_id: `step/name`.
            filename: One of its outputs.

        Returns:
            The file, present.

        Raises:
            RunError: The task is not finished, has no such output, or the output's text was scrubbed.
        """
        record = self.record(task_id)
        if record is None:
            raise RunError(f"{self.root}: {task_id} is not finished; `refusal-lens resume {self.root}` finishes it")
        if filename in record.scrubbed:
            raise RunError(
                f"{self.root}: the text of {task_id} was scrubbed on {record.scrubbed[filename]}; only its digest is left"
            )
        path = self.folder(task_id) / filename
        if filename not in record.outputs or not path.is_file():
            raise RunError(f"{self.root}: {task_id} has no output {filename!r}")
        return path

    def scrubbed(self, task_ids: Iterable[str]) -> list[str]:
        """Those of the tasks whose completion text was removed on purpose."""
        return [task_id for task_id in task_ids if (record := self.record(task_id)) is not None and record.scrubbed]

    def key(self, task: Task) -> str | None:
        """The task's key today, or None while an input is not finished."""
        digests: dict[str, str] = {}
        for task_id in task.inputs:
            record = self.record(task_id)
            if record is None:
                return None
            digests[task_id] = record.digest
        return task_key(task, digests)

    def is_valid(self, task: Task) -> bool:
        """Whether a believable, current result of the task is present; what is not believable is set aside.

        Every file up to 8 MiB is hashed, a larger one only when its size or times changed since it was hashed last
        (`refusal-lens verify` hashes everything). Call it while holding the lock.

        Args:
            task: The task, its inputs judged before it.

        Returns:
            True when nothing needs computing.
        """
        problem = self._problem(task)
        if problem is None:
            return True
        if problem:
            self.set_aside(task.task_id, problem)
        return False

    def problems(self, task_id: str, record: Record, *, thorough: bool) -> list[str]:
        """What is wrong with a recorded task's outputs, one line each; foreign files included.

        Args:
            task_id: The task.
            record: Its record.
            thorough: Hash everything, whatever the size and times say.

        Returns:
            Empty when all is as recorded.
        """
        folder = self.folder(task_id)
        present = (
            {entry.name: entry for entry in os.scandir(folder)} if folder.is_dir() and not folder.is_symlink() else {}
        )
        found: list[str] = []
        for name in sorted({*present, *record.outputs}):
            entry = present.get(name)
            if entry is None:
                if name not in record.scrubbed:
                    found.append(f"{name} is missing")
            elif name not in record.outputs or name in record.scrubbed:
                found.append(f"{name} is foreign")
            elif not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                found.append(f"{name} is not a plain file")
            elif not self._same(Path(entry.path), record, thorough=thorough):
                found.append(f"{name} does not have its recorded digest")
        return found

    @contextmanager
    def writing(self, task: Task) -> Generator[Path]:
        """Give a folder to write a task's outputs into, and make them the task's result when the block ends well.

        Args:
            task: The task; its inputs are finished.

        Yields:
            An empty folder, readable by the owner alone. Plain files only.

        Raises:
            RunError: An input is not finished, or nothing was written.
            StorageError: The storage refuses; nothing of the result remains.
        """
        key = self.key(task)
        if key is None:
            raise RunError(f"{self.root}: {task.task_id} started before its inputs were finished")
        started = time.monotonic()
        folder = self.root / "tmp" / f"{task.step}.{task.name}.{secrets.token_hex(6)}"
        try:
            with storage_errors(self.root / "data" / task.step / task.name, inside=self.root):
                make_folder(folder.parent, mode=PRIVATE_FOLDER)
                folder.mkdir(mode=PRIVATE_FOLDER)
                yield folder
                outputs = _seal(folder)
                if not outputs:
                    raise RunError(f"{task.task_id} wrote no output")
                self._commit(task, key, folder, outputs, time.monotonic() - started)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def set_aside(self, task_id: str, reason: str) -> None:
        """Move a task's outputs and record to `aside/`, with the reason; nothing is deleted."""
        present = [
            path for path in (self.folder(task_id), self.record_path(task_id)) if path.exists() or path.is_symlink()
        ]
        if present:
            self.move_aside(present, f"{task_id}: {reason}")

    def move_aside(self, paths: list[Path], reason: str) -> Path:
        """Move files or folders of the run to a new folder under `aside/` and note why; gives that folder."""
        return move_aside(self.root, paths, reason)

    def publish(self, file: Path) -> None:
        """Copy a finished task's output to `tables/` and remember where it came from; `verify` compares both.

        Args:
            file: An output file as `path` gives it.

        Raises:
            RunError: It is no output of a finished task.
            StorageError: The storage refuses.
        """
        publish(self, file)

    def append_history(self, header: Mapping[str, JsonValue]) -> None:
        """Keep an earlier `run.json` as one line of `history.jsonl`."""
        path = self.root / "history.jsonl"
        before = path.read_bytes() if path.exists() else b""
        write_atomic(path, before + json.dumps(dict(header), sort_keys=True).encode() + b"\n", mode=PUBLIC_FILE)

    def clean_temporary(self) -> None:
        """Remove half-written folders of processes that were killed. Call it while holding the lock, before any work."""
        shutil.rmtree(self.root / "tmp", ignore_errors=True)

    def _problem(self, task: Task) -> str | None:
        """None when valid; "" when simply absent; otherwise why the present files are not the result."""
        try:
            record = read_record(self.record_path(task.task_id))
        except FileNotFoundError:
            return (
                "outputs without a record (interrupted before it was written, or foreign)"
                if self.folder(task.task_id).exists()
                else ""
            )
        except DamagedRecordError as error:
            return f"record {error}"
        if record.key != self.key(task):
            return "superseded: its parameters or inputs changed"
        found = self.problems(task.task_id, record, thorough=False)
        foreign = [line for line in found if line.endswith(" is foreign")]
        if foreign and len(foreign) == len(found):
            self.move_aside(
                [self.folder(task.task_id) / line.removesuffix(" is foreign") for line in foreign],
                f"{task.task_id}: foreign file",
            )
            return None
        return "; ".join(found) or None

    def _same(self, path: Path, record: Record, *, thorough: bool) -> bool:
        now = _stat(path)
        known = record.stats.get(path.name)
        if not thorough and now[0] > ALWAYS_HASH_BYTES and now == known:
            return True
        if known is not None and known[0] != now[0]:
            return False
        same = digest_file(path) == record.outputs[path.name]
        if same and now != known and now[0] > ALWAYS_HASH_BYTES and not thorough:
            write_record(self.record_path(record.task_id), with_stats(record, {**record.stats, path.name: now}))
        return same

    def _commit(self, task: Task, key: str, folder: Path, outputs: dict[str, str], seconds: float) -> None:
        target = self.folder(task.task_id)
        make_folder(target.parent.parent, mode=PRIVATE_FOLDER)
        make_folder(target.parent, mode=PRIVATE_FOLDER)
        for attempt in range(_COMMIT_ATTEMPTS):
            other = self.record(task.task_id)
            if other is not None and other.key == key and not self.problems(task.task_id, other, thorough=True):
                return  # another worker finished the same task first; its result stands
            self.set_aside(task.task_id, "replaced by a new result")
            try:
                folder.rename(target)
                break
            except OSError:
                if attempt == _COMMIT_ATTEMPTS - 1 or not target.exists():
                    raise
        sync_folder(target.parent)
        inputs = {task_id: record.digest for task_id in task.inputs if (record := self.record(task_id)) is not None}
        record = Record(
            task_id=task.task_id,
            key=key,
            version=task.version,
            params=json.loads(json.dumps(dict(task.params))),
            inputs=inputs,
            outputs=outputs,
            stats={name: _stat(target / name) for name in outputs},
            seconds=round(seconds, 3),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            package=version("refusal-lens"),
        )
        write_record(self.record_path(task.task_id), record)


def _seal(folder: Path) -> dict[str, str]:
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


def _stat(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
