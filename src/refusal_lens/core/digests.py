"""SHA-256 of what a result depends on: JSON values in one canonical form, files, and folders of files.

digest_json(value)   = sha256(canonical_json(value))
digest_files(folder) = sha256(for each file: name NUL sha256(content) LF)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from refusal_lens.types import JsonValue


def canonical_json(value: JsonValue | Mapping[str, object]) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces, ASCII, no NaN.

    Args:
        value: A JSON value; tuples count as lists.

    Returns:
        ASCII bytes.

    Raises:
        ValueError: For NaN or infinity, which JSON cannot say.

    Example:
        >>> canonical_json({"b": 1, "a": (0.5, None)})
        b'{"a":[0.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def digest_bytes(content: bytes) -> str:
    """SHA-256 (hex) of bytes."""
    return hashlib.sha256(content).hexdigest()


def digest_json(value: JsonValue | Mapping[str, object]) -> str:
    """SHA-256 (hex) of a JSON value's canonical form."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_files(folder: Path, files: Iterable[Path], *, digest_of: Callable[[Path], str] = digest_file) -> str:
    """SHA-256 (hex) over the names and contents of some files of a folder.

    Args:
        folder: The folder, from which the names are told; where it lies does not matter.
        files: The files, in the order in which they count.
        digest_of: Gives a file's digest, where it is known without reading the file.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(folder).as_posix()}\0{digest_of(file)}\n".encode())
    return total.hexdigest()
