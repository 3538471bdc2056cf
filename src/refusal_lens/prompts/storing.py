"""Writing files so that either the old content or the new stands there, and a refusing disk becomes one clear message."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.prompts.published import FileDigest

_CHUNK = 1 << 20


@contextmanager
def storing(path: Path) -> Generator[None]:
    """Turn a refusal of the storage into a `DataError` that names the place."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); make room or choose another folder"
        ) from error


def write_file(path: Path, data: bytes) -> None:
    """Replace a file's content in one step; its folder is created when missing.

    Args:
        path: The file.
        data: New content.

    Raises:
        DataError: When the storage refuses.
    """
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def digest_of(path: Path) -> FileDigest | None:
    """Digest of a file's content, None where there is no readable regular file."""
    hasher, size = hashlib.sha256(), 0
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                hasher.update(chunk)
                size += len(chunk)
    except OSError:
        return None
    return FileDigest(hasher.hexdigest(), size)
