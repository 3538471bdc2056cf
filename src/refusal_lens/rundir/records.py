"""A task's record: the proof that its outputs are what they were when they were made; and the seal of every file of a run.

    key(task)         = sha256(canonical({step, version, params, inputs: {task id: digest of its outputs}}))
    digest of outputs = sha256(canonical({file name: sha256 of its bytes}))

`tasks/<step>/<name>.json` holds the key, the inputs' digests, every output's SHA-256, and a seal over all that (SHA-256 of
the content's canonical form), so that an edited record is noticed like an edited output. Removed completion text leaves
its digest behind and a mark in `scrubbed`. Names from records are checked before they become paths: a run directory may
come from a stranger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic import JsonValue as CheckedValue
from pydantic.dataclasses import dataclass as checked

from refusal_lens.core import json_files
from refusal_lens.core.digests import digest_json
from refusal_lens.core.files import write_atomic
from refusal_lens.errors import RunError
from refusal_lens.types import JsonValue, Task

RECORD_SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
_HEX = re.compile(r"[0-9a-f]{64}")


class DamagedRecordError(Exception):
    """A record that cannot be believed; the message says why."""


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Record:
    """What is known of a finished task.

    Attributes:
        task_id: `step/name`.
        key: The key it was computed under.
        version: The step's version.
        params: The parameters it was computed with.
        inputs: Digest of each input task's outputs, by task id.
        outputs: SHA-256 of each output file, by file name.
        stats: Size (bytes), modification and change time (ns) of each output when it was hashed; a fast path, no proof.
        seconds: Wall time of the computation.
        finished_at: ISO 8601, UTC.
        package: Version of RefusalLens that computed it.
        scrubbed: Files whose text was removed on purpose, with the time of removal.
        schema_version: Layout of this record.
    """

    task_id: str
    key: str
    version: int
    params: dict[str, CheckedValue]
    inputs: dict[str, str]
    outputs: dict[str, str]
    stats: dict[str, list[int]]
    seconds: float
    finished_at: str
    package: str
    scrubbed: dict[str, str] = field(default_factory=dict[str, str])
    schema_version: int = RECORD_SCHEMA

    @property
    def digest(self) -> str:
        """Digest of the outputs: what enters the keys of the tasks that read them. Unchanged by a scrub."""
        return digest_json(dict(self.outputs))


_ADAPTER = TypeAdapter(Record)


def task_key(task: Task, input_digests: Mapping[str, str]) -> str:
    """The key of a task's result: everything the result depends on and nothing else.

    Not in it: the task's name, and when, where or how fast it was computed. When a recomputed input comes out
    byte-identical, what depends on it keeps its key and stays valid.

    Args:
        task: The task.
        input_digests: Digest of the outputs of every task in `task.inputs`, by task id.

    Returns:
        64 hexadecimal digits.
    """
    return digest_json(
        {
            "step": task.step,
            "version": task.version,
            "params": dict(task.params),
            "inputs": {task_id: input_digests[task_id] for task_id in task.inputs},
        }
    )


def seal(content: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The content with a `seal` over all of it."""
    return {**content, "seal": digest_json(content)}


def unseal(data: Mapping[str, JsonValue]) -> dict[str, JsonValue] | None:
    """The content without its seal; None when the seal is missing or broken."""
    content = {name: value for name, value in data.items() if name != "seal"}
    try:
        return content if data.get("seal") == digest_json(content) else None
    except (ValueError, RecursionError):  # NaN, or nested beyond reason
        return None


def read_object(path: Path) -> dict[str, JsonValue]:
    """Read a JSON object of a run; RunError when it is missing, unreadable or none."""
    return json_files.read_object(path, error=RunError, advice="restore it, or audit again into a new folder")


def check_name(name: str) -> str:
    """The name itself when it is safe as one path component; ValueError otherwise."""
    if not is_name(name):
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def is_name(name: str) -> bool:
    """Whether a name is safe as one path component."""
    return _NAME.fullmatch(name) is not None


def split_id(task_id: str) -> tuple[str, str]:
    """Step and name of a task id `step/name`; ValueError when it is none."""
    step, slash, name = task_id.partition("/")
    if not slash:
        raise ValueError(f"{task_id!r} is not step/name")
    return check_name(step), check_name(name)


def write_record(path: Path, record: Record) -> None:
    """Write a sealed record atomically."""
    write_atomic(path, json.dumps(seal(asdict(record)), indent=1, sort_keys=True, allow_nan=False).encode())


def read_record(path: Path) -> Record:
    """Read a record and check its seal.

    Args:
        path: `tasks/<step>/<name>.json` (or announced, `.json.new`); the step and name must be the record's own.

    Returns:
        The record.

    Raises:
        DamagedRecordError: When it is no record, is altered, or belongs to another task.
        FileNotFoundError: When there is none.
    """
    try:
        body = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedRecordError(f"unreadable ({type(error).__name__})") from error
    content = unseal(body) if isinstance(body, dict) else None
    if content is None:
        raise DamagedRecordError("altered after it was written, or not a record")
    try:
        record = _ADAPTER.validate_python(content)
        step, name = split_id(record.task_id)
        for file in (*record.outputs, *record.scrubbed):
            check_name(file)
    except (ValidationError, ValueError, RecursionError) as error:
        raise DamagedRecordError("wrong fields") from error
    if (step, name) != (path.parent.name, path.name.removesuffix(".new").removesuffix(".json")):
        raise DamagedRecordError(f"belongs to {record.task_id}")
    if record.schema_version != RECORD_SCHEMA or not all(_HEX.fullmatch(value) for value in record.outputs.values()):
        raise DamagedRecordError("another layout")
    return record
