"""What a result is a result of: canonical JSON, SHA-256 of files, and a task's key.

    key(task) = sha256(canonical({step, version, params, inputs: {task id: digest of its outputs}}))
    digest of outputs = sha256(canonical({file name: sha256 of its bytes}))

The key names everything a result depends on and nothing else: not the task's name, not when, where or how fast it was
computed. When a recomputed input comes out byte-identical, what depends on it keeps its key and stays valid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from refusal_lens.types import JsonValue, Task

_CHUNK = 1 << 20


def canonical_json(value: JsonValue | Mapping[str, object]) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces, ASCII, no NaN.

    Args:
        value: A JSON value; tuples count as lists.

    Returns:
        ASCII bytes.

    Raises:
        ValueError: For NaN or infinity, which JSON cannot say.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def digest_json(value: JsonValue | Mapping[str, object]) -> str:
    """SHA-256 (hex) of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in chunks of 1 MiB."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def task_key(task: Task, input_digests: Mapping[str, str]) -> str:
    """The key of a task's result.

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
