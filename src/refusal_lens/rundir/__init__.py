"""The run directory: layout, keys, atomic writes, locks, records, verification. The only room that knows a run's paths."""

from __future__ import annotations

from refusal_lens.rundir.digests import canonical_json, digest_file, digest_json, task_key
from refusal_lens.rundir.files import StorageError, write_atomic
from refusal_lens.rundir.lock import Holder, RunLock, read_holder
from refusal_lens.rundir.published import Published, published, retract
from refusal_lens.rundir.records import DamagedRecordError, Record
from refusal_lens.rundir.redact import RedactingFilter, redact, redact_text
from refusal_lens.rundir.run import RunDir

__all__ = [
    "DamagedRecordError",
    "Holder",
    "Published",
    "Record",
    "RedactingFilter",
    "RunDir",
    "RunLock",
    "StorageError",
    "canonical_json",
    "digest_file",
    "digest_json",
    "published",
    "read_holder",
    "redact",
    "redact_text",
    "retract",
    "task_key",
    "write_atomic",
]
