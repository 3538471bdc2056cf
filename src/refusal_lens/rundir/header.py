"""`run.json`: what a run was asked for and with what, sealed; and every version of it in `history.jsonl`.

A flipped byte in `run.json` must not change what a resume computes. The seal (SHA-256 of the canonical content) shows the
damage, and the header is then read from the last undamaged line of the history.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.core.json_files import pretty_json
from refusal_lens.errors import RunError
from refusal_lens.rundir.records import read_object, seal, unseal
from refusal_lens.types import JsonValue

SCHEMA_VERSION = 1
FILE = "run.json"
HISTORY = "history.jsonl"
_LOG = logging.getLogger(__name__)


def exists(root: Path) -> bool:
    """Whether there is a run, judged by its header or the header's history."""
    return (root / FILE).is_file() or (root / HISTORY).is_file()


def header_damage(root: Path) -> str | None:
    """What is wrong with `run.json` itself; None when it is sound."""
    try:
        data = read_object(root / FILE)
    except RunError as error:
        return str(error)
    return None if unseal(data) is not None else f"{root / FILE}: was altered after it was written"


def history_damage(root: Path) -> str | None:
    """What is wrong with the history of the header; None when every line is sound."""
    path = root / HISTORY
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return f"{path}: is missing"
    except (OSError, ValueError):
        return f"{path}: cannot be read"
    wrong = [str(number) for number, line in enumerate(lines, 1) if _sound(line) is None]
    return f"{path}: line {', '.join(wrong)} was altered after it was written" if wrong else None


def read_header(root: Path) -> dict[str, JsonValue]:
    """Read a run's header, from its history when `run.json` is damaged.

    Args:
        root: The run.

    Returns:
        The header without its seal.

    Raises:
        RunError: Neither is sound, or the layout is another version's.
    """
    damage = header_damage(root)
    header = unseal(read_object(root / FILE)) if damage is None else _last(root / HISTORY)
    if header is None:
        raise RunError(f"{damage}, and {HISTORY} cannot stand in: run the same audit again with --out {root}")
    if damage is not None:
        _LOG.warning("%s; going on with its copy in %s", damage, HISTORY)
    if header.get("schema_version") != SCHEMA_VERSION:
        raise RunError(f"{root / FILE}: layout {header.get('schema_version')!r}, this version reads {SCHEMA_VERSION}")
    return header


def write_header(root: Path, header: Mapping[str, JsonValue]) -> None:
    """Write a header, into the history first."""
    path = root / HISTORY
    before = path.read_bytes() if path.exists() else b""
    if _last(path) != dict(header):
        write_atomic(path, before + json.dumps(seal(header), sort_keys=True).encode() + b"\n", mode=PUBLIC_FILE)
    write_atomic(root / FILE, pretty_json(seal(header)), mode=PUBLIC_FILE)


def _last(path: Path) -> dict[str, JsonValue] | None:
    """The last sound line of the history."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return next((header for line in reversed(lines) if (header := _sound(line)) is not None), None)


def _sound(line: str) -> dict[str, JsonValue] | None:
    """The header that a line of the history holds; None when the line is damaged."""
    try:
        data: JsonValue = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return unseal(data) if isinstance(data, dict) else None
