"""One run on disk: made, opened, locked, written to and cleaned up. Where its files lie is in `layout`.

This room does not decide what to compute (the pipeline does) or where (the executors do).
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from refusal_lens.core.files import make_folder, storage_refusals
from refusal_lens.core.redact import redact
from refusal_lens.errors import RunError
from refusal_lens.rundir.header import (
    FILE,
    HISTORY,
    SCHEMA_VERSION,
    exists,
    header_damage,
    history_damage,
    read_header,
    write_header,
)
from refusal_lens.rundir.layout import Layout
from refusal_lens.rundir.lock import RunLock
from refusal_lens.rundir.published import publish
from refusal_lens.rundir.rendered import page_is_intact, render
from refusal_lens.rundir.results import believable, finish_announced, writing
from refusal_lens.rundir.verifying import unknown_files
from refusal_lens.types import JsonValue, Task


class RunDir(Layout):
    """One run on disk. Cheap to open; every process (driver, worker, report) opens it by path for itself."""

    def __init__(self, root: Path, header: Mapping[str, JsonValue]) -> None:
        """Use `create` or `open` instead."""
        super().__init__(root)
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
            RunError: The folder holds something else, an unreadable run, or a run that another process holds.
            StorageError: The storage refuses to write.

        Example:
            >>> run = RunDir.create("runs/mine", header={"seed": 0})  # doctest: +SKIP
            >>> with run.lock(), run.writing(Task("numbers", 1, "one")) as folder:  # doctest: +SKIP
            ...     (folder / "out.txt").write_text("3")
            >>> run.path("numbers/one", "out.txt").read_text()  # doctest: +SKIP
            '3'
        """
        root = Path(path).absolute()
        with storage_refusals(root):
            if root.exists() and not root.is_dir():
                raise RunError(f"{root}: is a file; name a folder for the run")
            if root.is_dir() and not exists(root) and any(root.iterdir()) and not (root / "lock").exists():
                raise RunError(f"{root}: exists, is not empty and holds no run; name a new folder")
            make_folder(root)
        content = redact({**header, "schema_version": SCHEMA_VERSION})
        assert isinstance(content, dict)
        run = cls(root, content)
        with run.lock():  # the header of a run that another process holds is that process's
            for file, damage_of in ((FILE, header_damage), (HISTORY, history_damage)):
                damage = damage_of(root) if (root / file).exists() else None
                if damage is not None:
                    run.quarantine([root / file], damage)
            if not ((root / FILE).exists() and (root / HISTORY).exists()) or read_header(root) != content:
                write_header(root, content)
        return run

    def add_to_header(self, facts: Mapping[str, JsonValue]) -> None:
        """Write further facts into the header, which became known while the run went on; secrets in them are masked."""
        content = redact({**self.header, **facts})
        assert isinstance(content, dict)
        with self.lock():
            write_header(self.root, content)
        self.header = content

    @classmethod
    def open(cls, path: Path | str) -> RunDir:
        """Open an existing run.

        Args:
            path: The run directory.

        Returns:
            The run.

        Raises:
            RunError: There is no run, or its `run.json` is damaged or of another layout.
        """
        root = Path(path).absolute()
        try:
            found = exists(root)
        except (OSError, ValueError) as error:  # a name that is too long, a null byte, a folder that may not be entered
            raise RunError(f"{str(root)[:200]!r}: cannot be looked into ({type(error).__name__}: {error})") from None
        if not found:
            raise RunError(f"{root}: no run here (no {FILE}); `refusal-lens audit MODEL --out {root}` makes one")
        return cls(root, read_header(root))

    def lock(self) -> RunLock:
        """Context manager that holds the run for this process; RunError names another holder. May be nested."""
        return self._lock

    def is_valid(self, task: Task) -> bool:
        """Whether a believable, current result of the task is present; what is not believable is set aside.

        Every file up to 8 MiB is hashed, a larger one only when its size or times changed since it was hashed last
        (`refusal-lens verify` hashes everything). Call it while holding the lock.

        Args:
            task: The task, its inputs judged before it.

        Returns:
            True when nothing needs computing.
        """
        return believable(self, task)

    def writing(self, task: Task, *, seconds: float | None = None) -> AbstractContextManager[Path]:
        """Give a folder to write a task's outputs into, and make them the task's result when the block ends well.

        Args:
            task: The task; its inputs are finished.
            seconds: What computing it took, where it was computed before; None for as long as the block takes.

        Returns:
            Context manager over an empty folder, readable by the owner alone. Plain files only. Leaving it raises
            RunError when nothing was written, StorageError when the storage refuses; then nothing of the result remains.

        Raises:
            RunError: An input is not finished.
        """
        return writing(self, task, seconds=seconds)

    def publish(self, file: Path) -> None:
        """Copy a finished task's output to `tables/` and remember where it came from; `verify` compares both.

        Args:
            file: An output file as `path` gives it.

        Raises:
            RunError: It is no output of a finished task.
            StorageError: The storage refuses.
        """
        publish(self, file)

    def render(self, files: Mapping[str, bytes], *, private: Collection[str] = ()) -> None:
        """Write the report's files and remember their digests; what lies in their place unrecorded is set aside.

        Args:
            files: Content by path within the run: `report.html`, `figures/NAME`. Without the page the present one stays.
            private: Those that only the owner may read.

        Raises:
            StorageError: The storage refuses.
        """
        render(self, files, private=private)

    def report_is_intact(self) -> bool:
        """Whether the page and all its figures lie there as they were drawn."""
        return page_is_intact(self.root)

    def sweep(self) -> None:
        """Set aside whatever lies in the run and belongs to nothing. Call it while holding the lock, before any work."""
        for path, reason in list(unknown_files(self)):
            self.quarantine([path], f"{path.relative_to(self.root)}: {reason}")

    def clean_temporary(self) -> None:
        """Complete or remove what killed processes left half-done. Call it while holding the lock, before any work."""
        shutil.rmtree(self.root / "tmp", ignore_errors=True)
        for pattern in (".*.tmp", "tables/.*.tmp", "figures/.*.tmp", "tasks/*/.*.tmp"):
            for path in self.root.glob(pattern):
                path.unlink(missing_ok=True)
        finish_announced(self)
