"""Remove completion text and keep what was concluded from it.

A file with text is marked `scrubbed` in its task's record (its digest stays, so every later key and digest stays) and then
deleted; a kill in between leaves a marked file, which a second scrub deletes. Also deleted: quarantined and half-written
copies, the page of answers, and the report, which may show text. Prompts are the user's own and stay. A scrubbed result
counts as valid for what was computed from it; nothing that would need the text again is recomputed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.rundir.records import DamagedRecordError, Record, read_record, write_record
from refusal_lens.rundir.rendered import forget_page
from refusal_lens.rundir.run import RunDir

TEXT_COLUMNS = frozenset({"text", "answer", "completion", "response", "translation"})
TEXT_STEPS = frozenset({"completions"})
KEPT_STEPS = frozenset({"prompts"})


@dataclass(frozen=True)
class Scrubbed:
    """What a scrub removed: output files, and copies in `aside/`; whether the report went too."""

    outputs: int
    copies: int
    report: bool


def scrub(run: RunDir) -> Scrubbed:
    """Remove all completion text from a run.

    Args:
        run: The run; locked meanwhile.

    Returns:
        What was removed.

    Raises:
        RunError: Another process holds the run.
        StorageError: The storage refuses to write.
    """
    with run.lock():
        outputs = 0
        for path in sorted((run.root / "tasks").glob("*/*.json")):
            try:
                record = read_record(path)
            except (DamagedRecordError, FileNotFoundError):
                continue
            outputs += _scrub_task(run, record)
        run.clean_temporary()
        run.replies.unlink(missing_ok=True)
        copies = [path for path in sorted((run.root / "aside").rglob("*")) if path.is_file() and _may_hold_text(path)]
        for path in copies:
            path.unlink()
        shutil.rmtree(run.view_dir, ignore_errors=True)
        report = forget_page(run)
    return Scrubbed(outputs, len(copies), report)


def _scrub_task(run: RunDir, record: Record) -> int:
    step = record.task_id.partition("/")[0]
    folder = run.folder(record.task_id)
    files = [name for name in record.outputs if (folder / name).exists() and step not in KEPT_STEPS]
    texts = [name for name in files if name in record.scrubbed or step in TEXT_STEPS or holds_text(folder / name)]
    if not texts:
        return 0
    now = datetime.now(UTC).isoformat(timespec="seconds")
    marks = {**dict.fromkeys(texts, now), **record.scrubbed}
    if marks != record.scrubbed:
        write_record(run.record_path(record.task_id), replace(record, scrubbed=marks))
    for name in texts:
        (folder / name).unlink(missing_ok=True)
    return len(texts)


def holds_text(path: Path) -> bool:
    """Whether a file is a table with a column of completion text, or a table too damaged to tell."""
    if path.suffix != ".parquet":
        return False
    try:
        names = {str(name) for name in pq.read_schema(path).names}
    except (pa.ArrowException, OSError):
        return True
    return not TEXT_COLUMNS.isdisjoint(names)


def _may_hold_text(path: Path) -> bool:
    steps = set(path.parts)
    if not steps.isdisjoint(KEPT_STEPS):
        return False
    if not steps.isdisjoint(TEXT_STEPS) and "tasks" not in steps:
        return True
    return holds_text(path) or path.name == "report.html"
