"""The final tables: copies of finished outputs in `tables/`, each known by task, file and digest in `published.json`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refusal_lens.core.digests import digest_bytes, digest_file
from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.core.json_files import pretty_json
from refusal_lens.errors import RunError
from refusal_lens.rundir.header import read_object
from refusal_lens.rundir.records import is_name
from refusal_lens.types import JsonValue

if TYPE_CHECKING:
    from refusal_lens.rundir.run import RunDir

PUBLISHED_SCHEMA = 1
FOLDER = "tables"


@dataclass(frozen=True)
class Published:
    """Where a final table came from: task id, output file name, and the SHA-256 of its bytes."""

    task: str
    file: str
    sha256: str


def publish(run: RunDir, file: Path) -> None:
    """Copy an output of a finished task to `tables/`; a damaged or foreign file there is set aside first.

    Args:
        run: The run.
        file: The output, as `run.path` gives it.

    Raises:
        RunError: The file is no output of a finished task.
    """
    task_id = f"{file.parent.parent.name}/{file.parent.name}"
    content = run.path(task_id, file.name).read_bytes()
    entry = Published(task_id, file.name, digest_bytes(content))
    record = run.record(task_id)
    if record is None or record.outputs[file.name] != entry.sha256:
        raise RunError(f"{file}: does not have its recorded digest; `refusal-lens resume {run.root}` repairs it")
    known = published(run.root)
    target = run.root / FOLDER / file.name
    before = known.get(file.name)
    intact = target.is_file() and not target.is_symlink() and digest_file(target) == entry.sha256
    if not intact and (
        target.is_symlink() or (target.exists() and (before is None or digest_file(target) != before.sha256))
    ):
        run.move_aside([target], f"{FOLDER}/{file.name} does not have its recorded digest")
    if not intact:
        copy = _unlisted_copy(target, {*known, *record.outputs})
        if copy is not None:
            run.move_aside([copy], f"{FOLDER}/{copy.name} says what an earlier {file.name} said")
        write_atomic(target, content, mode=PUBLIC_FILE)
    if before != entry:
        _write(run.root, {**known, file.name: entry})


def retract(run: RunDir, task_ids: Collection[str]) -> None:
    """Set aside the tables of tasks that the present plan does not have."""
    known = published(run.root)
    gone = {name for name, entry in known.items() if entry.task not in task_ids}
    if not gone:
        return
    places = [run.root / FOLDER / name for name in sorted(gone)]
    copies = [copy for place in places if (copy := _unlisted_copy(place, known)) is not None]
    present = [place for place in [*places, *copies] if place.exists()]
    if present:
        run.move_aside(present, "published by an earlier plan")
    _write(run.root, {name: entry for name, entry in known.items() if name not in gone})


def _unlisted_copy(table: Path, listed: Collection[str]) -> Path | None:
    """The CSV that someone wrote beside a published Parquet table; None when there is none, or a task published it."""
    copy = table.with_suffix(".csv")
    mine = table.suffix != ".parquet" or copy.name in listed
    return None if mine or not copy.exists() else copy


def published(root: Path) -> dict[str, Published]:
    """The published tables by file name; empty when nothing was published or the list cannot be believed.

    A list that cannot be believed is rebuilt by the next resume, which publishes anew.
    """
    path = root / "published.json"
    if not path.exists():
        return {}
    try:
        files = read_object(path).get("files")
    except RunError:
        return {}
    found: dict[str, Published] = {}
    for name, entry in files.items() if isinstance(files, dict) else ():
        if is_name(name) and isinstance(entry, dict):
            found[name] = Published(str(entry.get("task")), str(entry.get("file")), str(entry.get("sha256")))
    return found


def _write(root: Path, entries: dict[str, Published]) -> None:
    files: dict[str, JsonValue] = {
        name: {"task": entry.task, "file": entry.file, "sha256": entry.sha256}
        for name, entry in sorted(entries.items())
    }
    write_atomic(
        root / "published.json", pretty_json({"schema_version": PUBLISHED_SCHEMA, "files": files}), mode=PUBLIC_FILE
    )
