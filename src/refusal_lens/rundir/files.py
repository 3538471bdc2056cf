"""Writing so that a power cut, a full disk or a kill leaves either the old file or the new one, never a half.

Steps of an atomic write: temporary file in the same folder, write, fsync, rename over the target, fsync the folder.
A storage that refuses (full, quota, read-only, forbidden) becomes one `StorageError` that says what to do.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from refusal_lens.errors import RunError
from refusal_lens.types import JsonValue

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
PUBLIC_FILE = 0o644

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_FULL_WORDS = ("no space left on device", "disk quota exceeded", "file too large")


class StorageError(RunError):
    """The run's storage refuses to write; nothing finished is lost and the run can go on once there is room."""


@contextmanager
def storage_errors(where: Path, *, inside: Path | None = None) -> Generator[None]:
    """Turn a refusal of the storage into a `StorageError`; every other error passes unchanged.

    Args:
        where: What was being written, for the message.
        inside: Only a forbidden file in this folder is the run's own trouble; None for any file.

    Yields:
        Nothing.

    Raises:
        StorageError: For a full disk, an exhausted quota, a read-only or forbidden folder.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        refusal = storage_refusal(error)
        elsewhere = (
            inside is not None
            and isinstance(error, PermissionError)
            and not Path(str(error.filename)).is_relative_to(inside)
        )
        if refusal is None or elsewhere:
            raise
        raise StorageError(
            f"{where}: {refusal}; what is finished is safe, `refusal-lens resume` goes on from there"
        ) from error


def storage_refusal(error: BaseException) -> str | None:
    """What a storage failure means for the user, or None when the error is not one.

    Native writers (safetensors, Arrow) lose the error number but keep the system's words, so both are looked at.
    """
    number = error.errno if isinstance(error, OSError) else None
    words = str(error).lower()
    if number in _FULL or any(phrase in words for phrase in _FULL_WORDS):
        return "the disk is full or the quota is used up: make room"
    if isinstance(error, OSError) and number in _FORBIDDEN:
        return "cannot be written (read-only or forbidden): change its permissions"
    return None


def write_atomic(path: Path, data: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Replace a file's content in one step, surviving a kill or a power cut.

    Args:
        path: The file; its folder is created when missing.
        data: New content.
        mode: Permission bits of the new file.

    Raises:
        StorageError: When the storage refuses.
    """
    with storage_errors(path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `write_atomic` gives to what it has not finished."""
    return _TEMPORARY.fullmatch(name) is not None


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Create a folder and its parents; existing ones keep their permissions.

    Args:
        path: The folder.
        mode: Permission bits of the last one.

    Raises:
        StorageError: A file is in the way, or no folder can be made in that place.
    """
    if path.is_dir():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode, exist_ok=True)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
        raise StorageError(f"{path}: cannot be made here ({error.strerror}: {error.filename}); name another") from error


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk, where the system can (some network file systems cannot)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(descriptor)


def read_object(path: Path) -> dict[str, JsonValue]:
    """Read a JSON object of a run.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        RunError: The file is missing, unreadable or no JSON object.
    """
    try:
        data: JsonValue = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        what = type(error).__name__
        raise RunError(
            f"{path}: damaged or unreadable ({what}); restore it, or audit again into a new folder"
        ) from None
    if not isinstance(data, dict):
        raise RunError(f"{path}: is not a JSON object")
    return data


def pretty_json(content: Mapping[str, JsonValue]) -> bytes:
    """A JSON object for people: indented, sorted, one line end; what is not encodable is escaped."""
    return json.dumps(dict(content), indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
