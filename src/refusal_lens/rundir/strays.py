"""What lies in a run directory and belongs to nothing there: foreign files, outputs without a record, tables without a task.

`verify` names them; a resume sets them aside first. One table that is not listed but equals a finished task's output byte
for byte was being published when the process died: it belongs there, and the next resume lists it. More than one means
that the list is damaged or gone. A CSV beside a published Parquet table may be written by whoever likes CSV: it belongs
there as long as it says the same, byte for byte. Figures that no report drew are told by `rendered`.
"""

from __future__ import annotations

import glob
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from refusal_lens.core.digests import digest_file
from refusal_lens.core.files import is_temporary
from refusal_lens.rundir.published import FOLDER, published
from refusal_lens.rundir.records import is_name, split_id
from refusal_lens.rundir.rendered import drawn_strays

if TYPE_CHECKING:
    from refusal_lens.rundir.run import RunDir

_KNOWN = {
    "run.json", "plan.json", "history.jsonl", "published.json", "rendered.json", "failures.json", "lock",
    "tasks", "data", "tables", "figures", "report.html", "aside", "tmp",
}  # fmt: skip


def strays(run: RunDir) -> Iterator[tuple[Path, str]]:
    """Every file or folder of a run that belongs to nothing, and why.

    Args:
        run: The run.

    Yields:
        Path and reason. Half-written files of a killed process (`.NAME.HEX.tmp`) are not strays: they vanish with the next run.
    """
    for path in sorted(run.root.iterdir()):
        if path.name not in _KNOWN and not is_temporary(path.name):
            yield path, "foreign"
    for path in sorted([*(run.root / "tasks").glob("*"), *(run.root / "data").glob("*")]):
        if path.is_symlink() or not path.is_dir():
            yield path, "foreign"
    for path in sorted((run.root / "tasks").glob("*/*")):
        unfinished = is_temporary(path.name) or path.name.endswith(".json.new")
        if not unfinished and (path.suffix != ".json" or not is_name(path.name)):
            yield path, "foreign"
    for path in sorted((run.root / "data").glob("*/*")):
        if not _recorded(run, path):
            yield path, "no record that could be believed belongs to it"
    yield from _tables(run)
    yield from drawn_strays(run.root)


def _recorded(run: RunDir, path: Path) -> bool:
    task_id = f"{path.parent.name}/{path.name}"
    try:
        split_id(task_id)
    except ValueError:
        return False
    return run.record(task_id) is not None or _announced(run, task_id)


def _announced(run: RunDir, task_id: str) -> bool:
    path = run.record_path(task_id)
    return path.with_name(f"{path.name}.new").exists()


def _tables(run: RunDir) -> Iterator[tuple[Path, str]]:
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


def _being_published(run: RunDir, path: Path) -> bool:
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
