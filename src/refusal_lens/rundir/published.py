"""The final tables: copies of finished outputs in `tables/`, each known by task, file and digest in `published.json`."""

from __future__ import annotations

import glob
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from refusal_lens.core.digests import digest_bytes, digest_file
from refusal_lens.core.files import PUBLIC_FILE, is_temporary, write_atomic
from refusal_lens.core.json_files import pretty_json
from refusal_lens.errors import RunError
from refusal_lens.rundir.layout import Layout
from refusal_lens.rundir.records import is_name, read_object
from refusal_lens.types import JsonValue

PUBLISHED_SCHEMA = 1
FOLDER = "tables"


@dataclass(frozen=True)
class Published:
    """Where a final table came from: task id, output file name, and the SHA-256 of its bytes."""

    task: str
    file: str
    sha256: str


def publish(run: Layout, file: Path) -> None:
    """Copy an output of a finished task to `tables/`; what lies there damaged or unknown is quarantined. See `RunDir.publish`."""
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
        run.quarantine([target], f"{FOLDER}/{file.name} does not have its recorded digest")
    if not intact:
        copy = _unlisted_copy(target, {*known, *record.outputs})
        if copy is not None:
            run.quarantine([copy], f"{FOLDER}/{copy.name} says what an earlier {file.name} said")
        write_atomic(target, content, mode=PUBLIC_FILE)
    if before != entry:
        _write(run.root, {**known, file.name: entry})


def retract(run: Layout, task_ids: Collection[str]) -> None:
    """Quarantine the tables of tasks that the present plan does not have."""
    known = published(run.root)
    gone = {name for name, entry in known.items() if entry.task not in task_ids}
    if not gone:
        return
    places = [run.root / FOLDER / name for name in sorted(gone)]
    copies = [copy for place in places if (copy := _unlisted_copy(place, known)) is not None]
    present = [place for place in [*places, *copies] if place.exists()]
    if present:
        run.quarantine(present, "published by an earlier plan")
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


def unknown_tables(run: Layout) -> Iterator[tuple[Path, str]]:
    """Files in `tables/` that belong to nothing, and why.

    One table that is not listed but equals a finished task's output byte for byte was being published when the process
    died: it belongs there, and the next resume lists it. More than one means that the list is damaged or gone. A CSV beside
    a published Parquet table may be written by whoever likes CSV; it belongs there as long as it says the same.

    Args:
        run: The run.

    Yields:
        Path and reason.
    """
    known = published(run.root)
    folder = run.root / FOLDER
    unlisted: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name in known or is_temporary(path.name):
            continue
        table = path.with_suffix(".parquet")
        if path.suffix != ".csv" or table.name not in known:
            unlisted.append(path)
        elif not _says_the_same(path, table):
            yield path, f"does not say what {table.name} says"
    if len(unlisted) == 1 and _being_published(run, unlisted[0]):
        return
    for path in unlisted:
        yield path, "foreign, no task published it"


def _being_published(run: Layout, path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    digest = digest_file(path)
    makers = (
        run.record(f"{file.parent.parent.name}/{file.parent.name}")
        for file in run.root.glob(f"data/*/*/{glob.escape(path.name)}")
    )
    return any(record is not None and record.outputs.get(path.name) == digest for record in makers)


def _says_the_same(path: Path, table: Path) -> bool:
    buffer = io.BytesIO()
    try:
        pa_csv.write_csv(pq.read_table(table), buffer)
        return path.read_bytes() == buffer.getvalue()
    except (pa.ArrowException, OSError):
        return True  # the table itself is damaged: that is said elsewhere


def _write(root: Path, entries: dict[str, Published]) -> None:
    files: dict[str, JsonValue] = {
        name: {"task": entry.task, "file": entry.file, "sha256": entry.sha256}
        for name, entry in sorted(entries.items())
    }
    write_atomic(
        root / "published.json", pretty_json({"schema_version": PUBLISHED_SCHEMA, "files": files}), mode=PUBLIC_FILE
    )
