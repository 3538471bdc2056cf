"""Recompute every digest of a run and follow the chain from records to final tables.

Checked: `run.json`, its history and `plan.json` sound; every record sealed and its key that of its own fields; every
output hashed (no fast path) and compared; every input of a planned task still has the digest it was computed from; every
final table has its recorded digest and belongs to a current record; so have report and figures; no file lies in the run
that belongs to nothing. A seal shows damage and careless edits; it is no signature: who rewrites the whole chain consistently
is not found out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refusal_lens.core.digests import digest_file
from refusal_lens.core.files import is_temporary
from refusal_lens.errors import RunError
from refusal_lens.rundir.header import header_damage, history_damage
from refusal_lens.rundir.layout import KNOWN_NAMES, Layout
from refusal_lens.rundir.planned import read_plan
from refusal_lens.rundir.published import FOLDER, published, unknown_tables
from refusal_lens.rundir.records import (
    DamagedRecordError,
    Record,
    is_name,
    read_object,
    read_record,
    split_id,
    task_key,
)
from refusal_lens.rundir.rendered import drawn_damage, unknown_drawings
from refusal_lens.rundir.results import problems
from refusal_lens.types import Task


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        problems: One line each, naming the file; empty when everything is as recorded.
        files: How many files were hashed.
        unfinished: Planned tasks without a current result; no fault, `resume` computes them.
        scrubbed: Outputs whose text was removed on purpose.
    """

    problems: tuple[str, ...]
    files: int
    unfinished: int
    scrubbed: int


def verify_chain(run: Layout) -> Verification:
    """Verify a run directory.

    Args:
        run: The run; nothing in it is changed.

    Returns:
        Everything that is off.
    """
    found = [damage for damage in (header_damage(run.root), history_damage(run.root)) if damage is not None]
    records, files = _records(run, found)
    try:
        plan = {task.task_id: task for task in read_plan(run)}
    except RunError as error:
        found.append(str(error))
        plan = {}
    if not run.plan_path.exists() and records:
        found.append("plan.json: is missing")
    unfinished = 0
    for task_id, task in plan.items():
        record = records.get(task_id)
        if record is None or record.key != _key_of(task, records):
            unfinished += 1
    found.extend(f"{path.relative_to(run.root)}: {why}" for path, why in unknown_files(run))
    if (run.root / "published.json").exists():
        try:
            read_object(run.root / "published.json")
        except RunError as error:
            found.append(f"published.json: {error}")
    found.extend(drawn_damage(run.root))
    files += _tables(run, records, plan, found)
    return Verification(tuple(found), files, unfinished, sum(len(record.scrubbed) for record in records.values()))


def _records(run: Layout, found: list[str]) -> tuple[dict[str, Record], int]:
    records: dict[str, Record] = {}
    files = 0
    for path in sorted((run.root / "tasks").glob("*/*")):
        place = path.relative_to(run.root)
        if path.suffix != ".json" or not is_name(path.name) or not is_name(path.parent.name):
            continue
        try:
            record = read_record(path)
        except (DamagedRecordError, FileNotFoundError) as error:
            found.append(f"{place}: record {error}")
            continue
        records[record.task_id] = record
        files += len(record.outputs) - len(record.scrubbed)
        found.extend(f"data/{record.task_id}/{line}" for line in problems(run, record, thorough=True))
        step, _, name = record.task_id.partition("/")
        task = Task(step, record.version, name, record.params, tuple(record.inputs))
        if task_key(task, record.inputs) != record.key:
            found.append(f"{place}: its key is not that of its fields")
    return records, files


def _key_of(task: Task, records: dict[str, Record]) -> str | None:
    if any(name not in records for name in task.inputs):
        return None
    return task_key(task, {name: records[name].digest for name in task.inputs})


def _tables(run: Layout, records: dict[str, Record], plan: dict[str, Task], found: list[str]) -> int:
    known = published(run.root)
    folder = run.root / FOLDER
    for name, entry in sorted(known.items()):
        path = folder / name
        record = records.get(entry.task)
        if not path.is_file() or path.is_symlink():
            found.append(f"{FOLDER}/{name}: is missing")
        elif digest_file(path) != entry.sha256:
            found.append(f"{FOLDER}/{name}: does not have its recorded digest")
        if record is None or record.outputs.get(entry.file) != entry.sha256:
            found.append(f"{FOLDER}/{name}: is not the recorded output of {entry.task}")
        elif entry.task in plan and record.key != _key_of(plan[entry.task], records):
            found.append(f"{FOLDER}/{name}: is out of date, the inputs of {entry.task} changed or are missing")
    return len(known)


def unknown_files(run: Layout) -> Iterator[tuple[Path, str]]:
    """Every file or folder of a run that belongs to nothing, and why.

    Args:
        run: The run.

    Yields:
        Path and reason. Half-written files of a killed process (`.NAME.HEX.tmp`) do not count: they vanish with the next run.
    """
    for path in sorted(run.root.iterdir()):
        if path.name not in KNOWN_NAMES and not is_temporary(path.name):
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
    yield from unknown_tables(run)
    yield from unknown_drawings(run.root)


def _recorded(run: Layout, path: Path) -> bool:
    """Whether a folder of outputs has a record, or one that was announced when its process died."""
    task_id = f"{path.parent.name}/{path.name}"
    try:
        split_id(task_id)
    except ValueError:
        return False
    return run.record(task_id) is not None or run.announced_path(task_id).exists()
