"""Writing files so that a power cut, a full disk or a kill leaves either the old content or the new, never a half.

An atomic write: temporary file in the same folder, write, fsync, rename over the target, fsync the folder. Every refusal
of the storage (full, quota, read-only, forbidden, a file in the way) becomes one `StorageError` that says what to do.
Windows cannot flush a folder and has no owner-only permission bits: there the rename alone protects, and the folder's own
permissions decide who reads.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from refusal_lens.errors import RunError

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
PUBLIC_FILE = 0o644

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_FULL_WORDS = ("no space left on device", "disk quota exceeded", "file too large")


class StorageError(RunError):
    """A file or folder cannot be written; what was written before is untouched."""


def write_atomic(path: Path, data: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Replace a file's content in one step, surviving a kill or a power cut.

    Args:
        path: The file; its folder is created when missing.
        data: New content.
        mode: Permission bits of the new file.

    Raises:
        StorageError: The storage refuses.

    Example:
        >>> write_atomic(Path("run/rates.json"), b"{}", mode=PUBLIC_FILE)  # doctest: +SKIP
    """
    with storing(path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)  # Windows would write CR LF
            with os.fdopen(os.open(temporary, flags, mode), "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def storing(place: Path) -> Generator[None]:
    """Turn every operating-system error in the block into a `StorageError`; for blocks that do nothing but write.

    Args:
        place: What is being written, for the message.

    Yields:
        Nothing.

    Raises:
        StorageError: The system refuses, for whatever reason.
    """
    try:
        yield
    except OSError as error:
        why = storage_refusal(error) or f"cannot be written ({error.strerror or error}); name another place"
        raise StorageError(f"{place}: {why}") from error


@contextmanager
def storage_refusals(place: Path, *, inside: Path | None = None) -> Generator[None]:
    """Turn a refusal of the storage into a `StorageError`, and no other error; for blocks that also compute.

    Args:
        place: What is being written, for the message.
        inside: Only a forbidden file in this folder counts (a model that may not be read is another trouble); None for any.

    Yields:
        Nothing.

    Raises:
        StorageError: A full disk, an exhausted quota, a read-only or forbidden folder.
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
        raise StorageError(f"{place}: {refusal}") from error


def storage_refusal(error: BaseException) -> str | None:
    """What a storage failure means for the user, or None when the error is not one.

    Native writers (safetensors, Arrow) lose the error number but keep the system's words, so both are looked at.
    """
    number = error.errno if isinstance(error, OSError) else None
    words = str(error).lower()
    if number in _FULL or any(phrase in words for phrase in _FULL_WORDS):
        return "cannot be written, the disk is full or the quota is used up: make room"
    if isinstance(error, OSError) and number in _FORBIDDEN:
        return "cannot be written (read-only or forbidden): change its permissions or name another place"
    return None


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
        raise StorageError(
            f"{path}: cannot be written here ({error.strerror}: {error.filename}); name another place"
        ) from error


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    with path.open("r+b") as stream:  # Windows flushes only what is open for writing
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk, where the system can (Windows and some network file systems cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)
