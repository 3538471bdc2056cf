"""Reading prompt files that others wrote: every fault becomes one `DataError` that names file, row and remedy.

Steps: the file must be a regular file of bounded size, UTF-8 (a byte-order mark is allowed); JSON must parse; every
text taken from it must be a visible, encodable string of bounded length. Texts are returned exactly as written: right-
to-left and zero-width characters are legitimate in several languages and stay (`data check` lists odd ones).

Does not guess encodings and does not repair anything.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path

from refusal_lens.core import json_files
from refusal_lens.errors import DataError
from refusal_lens.types import JsonValue

MAX_FILE_BYTES = 256 << 20
"""Largest prompt file that is read; the published ones have at most 0.3 MB."""

MAX_CHARACTERS = 100_000
"""Longest single prompt; no instruction is longer, and no common context window holds more."""

_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})


def read_text(path: Path) -> str:
    """Read a UTF-8 text file."""
    return as_text(read_bytes(path), path)


def as_text(raw: bytes, path: Path) -> str:
    """A file's bytes as UTF-8 text without a byte-order mark, or a `DataError` that names the line."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not UTF-8 (byte {error.start}); save the file as UTF-8") from None


def read_bytes(path: Path) -> bytes:
    """A file's content, or a `DataError` when it is absent, no regular file, unreadable or too large."""
    try:
        # O_NONBLOCK: opening a pipe must not hang; what was opened is then checked, so nothing can be swapped in between.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path}: not a regular file; name a file of prompts")
            if status.st_size > MAX_FILE_BYTES:
                raise DataError(
                    f"{path}: {status.st_size:,} bytes is more than a prompt file can have ({MAX_FILE_BYTES:,}); split it"
                )
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; name a file of prompts") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r}: cannot be read ({error}); check the path and its permissions") from None


def parse_json(text: str, where: str) -> JsonValue:
    """Parse one JSON document."""
    return json_files.parse_json(text, where, advice="repair or re-download the file")


def read_records(path: Path) -> list[dict[str, JsonValue]]:
    """Read a JSON file that holds a list of objects."""
    value = parse_json(read_text(path), str(path))
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of objects with an `instruction`, found {kind_of(value)}")
    rows: list[dict[str, JsonValue]] = []
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number}: expected an object with an `instruction`, found {kind_of(row)}")
        rows.append(row)
    return rows


def clean_text(value: JsonValue, where: str, *, name: str = "prompt") -> str:
    """Check one prompt text."""
    fault = row_fault(value)
    if fault is not None or not isinstance(value, str):
        raise DataError(f"{where}: the {name} {fault}; correct it or remove the row in every language")
    return value


def row_fault(value: JsonValue) -> str | None:
    """Why a value cannot be a prompt's text, or None when it can; see `text_fault`."""
    return text_fault(value) if isinstance(value, str) else f"is {kind_of(value)}, not a text"


def text_fault(text: str) -> str | None:
    """Why a text cannot be a prompt, or None when it can."""
    if len(text) > MAX_CHARACTERS:
        return f"has {len(text):,} characters, more than any instruction ({MAX_CHARACTERS:,})"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        return f"has a lone surrogate ({half}, half of a character) at character {error.start + 1}"
    if all(unicodedata.category(character) in _INVISIBLE for character in text):
        return "is empty" if not text else "has no visible character"
    return None


def kind_of(value: JsonValue) -> str:
    """Name of a JSON value's kind, with its article."""
    names = {
        type(None): "null",
        bool: "true/false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)  # Parquet also holds dates, bytes, ..
