"""Where the files of a run lie, what is known of its finished tasks, and its quarantine. Everything else builds on this.

    run.json  plan.json  history.jsonl  published.json  rendered.json  failures.json  audit.log  lock
    tasks/<step>/<name>.json    records        data/<step>/<name>/*    outputs, readable by their owner alone
    tables/  figures/  report.html  signature.json    aside/  quarantine      tmp/  what is being written
    view/  the page of answers, text that no record names; `scrub` deletes it

Quarantine: a file that is damaged, out of date or unknown is moved to `aside/`, with the reason, and never deleted.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from refusal_lens.core.files import PRIVATE_FOLDER, make_folder, storage_refusals
from refusal_lens.errors import RunError
from refusal_lens.rundir.records import DamagedRecordError, Record, read_record, split_id, task_key
from refusal_lens.types import Task

KNOWN_NAMES = frozenset({
    "run.json", "plan.json", "history.jsonl", "published.json", "rendered.json", "failures.json", "audit.log", "lock",
    "tasks", "data", "tables", "figures", "report.html", "view", "aside", "tmp", "signature.json", "replies.jsonl",
})  # fmt: skip
_LOG = logging.getLogger(__name__)


class Layout:
    """The files of one run. Knows names and places; opens nothing but records."""

    def __init__(self, root: Path) -> None:
        """Take a run's folder; nothing is read yet."""
        self.root = root

    @property
    def tables_dir(self) -> Path:
        """Folder of the final tables."""
        return self.root / "tables"

    @property
    def report_path(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"

    @property
    def view_dir(self) -> Path:
        """Folder of the page of answers."""
        return self.root / "view"

    @property
    def plan_path(self) -> Path:
        """The tasks as last planned."""
        return self.root / "plan.json"

    def folder(self, task_id: str) -> Path:
        """Where a task's outputs lie, finished or not."""
        step, name = split_id(task_id)
        return self.root / "data" / step / name

    def record_path(self, task_id: str) -> Path:
        """Where a task's record lies."""
        step, name = split_id(task_id)
        return self.root / "tasks" / step / f"{name}.json"

    def announced_path(self, task_id: str) -> Path:
        """Where a record waits while its outputs are moved to their place."""
        path = self.record_path(task_id)
        return path.with_name(f"{path.name}.new")

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

    @property
    def replies(self) -> Path:
        """Replies of a served model to prompts of tasks that failed; text, for the owner alone, gone once an audit is whole."""
        return self.root / "replies.jsonl"

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

    def quarantine(self, paths: Iterable[Path], reason: str) -> Path:
        """Move files or folders of the run into `aside/<time>-<random>/`, keeping their place in the run.

        Args:
            paths: What to move; what is gone already is skipped.
            reason: One line, written to `REASON` there and logged.

        Returns:
            The new folder.

        Raises:
            StorageError: The storage refuses.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        target = self.root / "aside" / f"{stamp}-{secrets.token_hex(3)}"
        with storage_refusals(target):
            make_folder(target.parent, mode=PRIVATE_FOLDER)
            target.mkdir(mode=PRIVATE_FOLDER)
            for path in paths:
                place = target / path.relative_to(self.root)
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    path.rename(place)
                except FileNotFoundError:
                    continue
            (target / "REASON").write_text(f"{reason}\n", encoding="utf-8", errors="replace")
        _LOG.warning("set aside in %s: %s", target.relative_to(self.root), reason)
        return target

    def quarantine_task(self, task_id: str, reason: str) -> None:
        """Move a task's outputs and record, where there are any, to the quarantine."""
        present = [
            path for path in (self.folder(task_id), self.record_path(task_id)) if path.exists() or path.is_symlink()
        ]
        if present:
            self.quarantine(present, f"{task_id}: {reason}")
