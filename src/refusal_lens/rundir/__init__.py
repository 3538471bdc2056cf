"""The run directory: layout, keys, atomic writes, locks, records, verification. The only room that knows a run's paths."""

from __future__ import annotations

from refusal_lens.core.files import StorageError
from refusal_lens.rundir.answers import AnswerRow, answer_table, read_answers, spans
from refusal_lens.rundir.lock import Holder, RunLock, live_holder, read_holder
from refusal_lens.rundir.planned import Progress, StepProgress, progress, read_plan, write_plan
from refusal_lens.rundir.published import Published, published, retract
from refusal_lens.rundir.records import DamagedRecordError, Record, task_key
from refusal_lens.rundir.run import RunDir
from refusal_lens.rundir.scrubbing import Scrubbed, scrub
from refusal_lens.rundir.store import Relocatable, Store
from refusal_lens.rundir.verifying import Verification, verify_chain

__all__ = [
    "AnswerRow",
    "DamagedRecordError",
    "Holder",
    "Progress",
    "Published",
    "Record",
    "Relocatable",
    "RunDir",
    "RunLock",
    "Scrubbed",
    "StepProgress",
    "StorageError",
    "Store",
    "Verification",
    "answer_table",
    "live_holder",
    "progress",
    "published",
    "read_answers",
    "read_holder",
    "read_plan",
    "retract",
    "scrub",
    "spans",
    "task_key",
    "verify_chain",
    "write_plan",
]
