"""A run on storage that is no file system (S3-compatible, any fsspec URL): workers without a shared disk exchange results.

Renames and locks need a file system, so every machine works in a run directory of its own and copies finished tasks:
outputs first, the sealed record last, so that a record in the store means that its outputs are there. What is fetched is
checked by its digests like any other result. The store has the layout of a run directory: copied down whole, it is one. It
is not locked: one driver at a time.
"""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from refusal_lens.core.digests import digest_bytes
from refusal_lens.core.files import PRIVATE_FILE, PRIVATE_FOLDER, PUBLIC_FILE, StorageError, make_folder, write_atomic
from refusal_lens.core.redact import redact_text
from refusal_lens.errors import RunError, UserError
from refusal_lens.rundir.records import split_id
from refusal_lens.rundir.results import problems
from refusal_lens.rundir.run import RunDir
from refusal_lens.types import Task

_REST = ("run.json", "plan.json", "history.jsonl", "published.json", "rendered.json", "report.html")
_FOLDERS = ("tables", "figures")


@runtime_checkable
class FileSystem(Protocol):
    """What a store needs of fsspec."""

    protocol: str | tuple[str, ...]

    def exists(self, path: str) -> bool:
        """Whether an object or folder is there."""
        ...

    def find(self, path: str) -> list[str]:
        """All objects below a path."""
        ...

    def cat_file(self, path: str) -> bytes:
        """An object's bytes."""
        ...

    def pipe_file(self, path: str, value: bytes) -> None:
        """Write an object."""
        ...

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder where there are folders."""
        ...

    def rm_file(self, path: str) -> None:
        """Delete an object."""
        ...


@runtime_checkable
class Relocatable(Protocol):
    """A worker factory that can work in another run directory."""

    def at(self, run_dir: Path) -> Callable[[], Callable[[Task], None]]:
        """The same factory for another run directory."""
        ...


@dataclass(frozen=True)
class Store:
    """Where finished tasks are copied to.

    Attributes:
        url: Any fsspec URL, e.g. s3://bucket/runs/qwen. Credentials come from the environment, never from the URL.
    """

    url: str

    @cached_property
    def _place(self) -> tuple[FileSystem, str]:
        try:
            import fsspec
        except ImportError:
            raise UserError(
                f"{redact_text(self.url)}: storage URLs need fsspec: pip install 'refusal-lens[ray]'"
            ) from None
        try:
            system, path = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UserError(redact_text(f"{self.url}: this storage cannot be used ({error})")) from None
        return system, str(path).rstrip("/")

    def check(self) -> None:
        """Make sure that the store answers and can hold a run, before anything is computed.

        Raises:
            UserError: No such kind of storage is known here.
            StorageError: It does not answer, or refuses.
        """
        system, root = self._place
        with self._answering():
            system.makedirs(root, exist_ok=True)
            system.exists(f"{root}/tasks")

    @contextmanager
    def _answering(self) -> Generator[None]:
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # each kind of storage has errors of its own; all mean the same to the user
            why = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
            said = redact_text(f"{self.url}: the store cannot be used ({why})")
            raise StorageError(f"{said}; credentials come from the environment") from error

    def push(self, run: RunDir, task_id: str) -> None:
        """Copy a finished task's outputs, then its record, to the store."""
        record = run.record(task_id)
        if record is None:
            raise RunError(f"{run.root}: {task_id} is not finished")
        for name in record.outputs:
            self._write(f"data/{task_id}/{name}", run.folder(task_id) / name)
        self._write(f"tasks/{task_id}.json", run.record_path(task_id))

    def pull(self, run: RunDir, task_id: str) -> bool:
        """Copy a finished task from the store, unless the run has it already.

        Args:
            run: A run directory on this machine.
            task_id: The task.

        Returns:
            True when the run now has a result whose files have their recorded digests; False when the store has none.
        """
        record = run.record(task_id)
        if record is not None and not problems(run, record, thorough=True):
            return True
        sealed = self._read(f"tasks/{task_id}.json")
        if sealed is None:
            return False
        run.quarantine_task(task_id, "replaced by the store's result")
        write_atomic(run.record_path(task_id), sealed)
        record = run.record(task_id)
        if record is None:
            run.quarantine_task(task_id, "the store's record is damaged")
            return False
        folder = run.root / "tmp" / f"pull.{secrets.token_hex(6)}"
        make_folder(folder.parent, mode=PRIVATE_FOLDER)
        folder.mkdir(mode=PRIVATE_FOLDER)
        try:
            for name in record.outputs:
                content = self._read(f"data/{task_id}/{name}")
                if content is not None:
                    write_atomic(folder / name, content, mode=PRIVATE_FILE)
            make_folder(run.folder(task_id).parent, mode=PRIVATE_FOLDER)
            folder.rename(run.folder(task_id))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        found = problems(run, record, thorough=True)
        if found:
            run.quarantine_task(task_id, f"damaged in the store: {'; '.join(found)}")
        return not found

    def pull_all(self, run: RunDir) -> int:
        """Copy every finished task the store has; gives how many the run then has."""
        names = [place.removeprefix("tasks/").removesuffix(".json") for place in self._places("tasks")]
        return sum(self.pull(run, name) for name in names if _is_id(name))

    def push_rest(self, run: RunDir) -> None:
        """Copy the run's header, plan, tables, figures and report to the store."""
        for place, path in _rest(run).items():
            self._write(place, path)

    def settle(self, run: RunDir) -> None:
        """Copy as `push_rest` does, at the end of an audit, and delete there the figures, tables and page that the run lacks."""
        self.push_rest(run)
        there = [place for folder in _FOLDERS for place in self._places(folder)]
        self._delete({*there, *_REST} - _rest(run).keys())

    def push_scrubbed(self, run: RunDir) -> None:
        """Remove from the store the text that was scrubbed from the run: records with their marks first, then the files."""
        ids = [f"{path.parent.name}/{path.stem}" for path in sorted((run.root / "tasks").glob("*/*.json"))]
        for task_id in run.scrubbed(ids):
            record = run.record(task_id)
            assert record is not None, "a scrubbed task has a record"
            self._write(f"tasks/{task_id}.json", run.record_path(task_id))
            self._delete(f"data/{task_id}/{name}" for name in record.scrubbed)
        self.settle(run)

    def factory(self, worker_factory: Callable[[], Callable[[Task], None]]) -> StoreFactory:
        """A worker factory that works in a run directory of its own and exchanges results through the store.

        Args:
            worker_factory: The pipeline's factory; must be `Relocatable`.

        Returns:
            Its wrapper, picklable like it.

        Raises:
            UserError: The factory cannot work elsewhere.
        """
        if not isinstance(worker_factory, Relocatable):
            raise UserError(f"{redact_text(self.url)}: this pipeline's workers need a shared disk")
        return StoreFactory(worker_factory, self.url)

    def _read(self, place: str) -> bytes | None:
        system, root = self._place
        with self._answering():
            try:
                return system.cat_file(f"{root}/{place}")
            except FileNotFoundError:
                return None

    def _places(self, folder: str) -> list[str]:
        """All objects in a folder of the store, by their place in the run."""
        system, root = self._place
        with self._answering():
            found = system.find(f"{root}/{folder}") if system.exists(f"{root}/{folder}") else []
        return [path.removeprefix(f"{root}/") for path in found]

    def _delete(self, places: Iterable[str]) -> None:
        system, root = self._place
        for place in places:
            with self._answering(), suppress(FileNotFoundError):
                system.rm_file(f"{root}/{place}")

    def _write(self, place: str, file: Path) -> None:
        """Copy a file; in a folder whole and as private as the original, elsewhere as private as the storage is."""
        system, root = self._place
        target = f"{root}/{place}"
        with self._answering():
            if "file" in system.protocol:
                private = file.stat().st_mode & 0o077 == 0
                if place.startswith("data/"):
                    make_folder(Path(root) / "data", mode=PRIVATE_FOLDER)
                write_atomic(Path(target), file.read_bytes(), mode=PRIVATE_FILE if private else PUBLIC_FILE)
                return
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            system.pipe_file(target, file.read_bytes())


@dataclass(frozen=True)
class StoreFactory:
    """Picklable: pulls a task's inputs, computes it in a scratch run directory, pushes the result."""

    inner: Relocatable
    url: str

    def __call__(self) -> Callable[[Task], None]:
        """Make this process's scratch directory and worker."""
        name = digest_bytes(self.url.encode())[:12]
        scratch = Path(tempfile.mkdtemp(prefix=f"refusal-lens-{name}-"))
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        store = Store(self.url)
        run = RunDir.create(scratch, header={"store": self.url})
        work = self.inner.at(scratch)()

        def compute(task: Task) -> None:
            for task_id in dict.fromkeys(name for member in task.members for name in member.inputs):
                if not store.pull(run, task_id):
                    raise RunError(
                        f"{redact_text(self.url)}: {task_id} is missing or damaged; resume computes it again"
                    )
            work(task)
            for member in task.members:
                if member.task_id == task.task_id or run.record(member.task_id) is not None:
                    store.push(run, member.task_id)

        return compute


def _rest(run: RunDir) -> dict[str, Path]:
    """What of a run stands outside its tasks, by place."""
    files = [run.root / name for name in _REST]
    files += [path for folder in _FOLDERS for path in sorted((run.root / folder).glob("*"))]
    return {str(path.relative_to(run.root)): path for path in files if path.is_file()}


def _is_id(name: str) -> bool:
    try:
        split_id(name)
    except ValueError:
        return False
    return True
