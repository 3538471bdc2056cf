"""SHA-256 of large files, each read once: by threads side by side, kept for later processes.

A digest is known again by the file's path, device, inode, size and times of change (of content and of attributes, which no
ordinary tool sets back). A file that changed within the last seconds is not kept: a second change could carry the same time.
What is kept lies in the user's cache folder, a small file a digest; where that cannot be written, files are read again.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from refusal_lens.core.digests import digest_bytes, digest_file
from refusal_lens.core.files import StorageError, write_atomic

LARGE = 16 << 20
"""Bytes from which on a digest is worth keeping."""
SETTLED_SECONDS = 5.0
THREADS = 4
_HEX = re.compile(r"[0-9a-f]{64}")
_lock = threading.Lock()
_known: dict[str, Future[str]] = {}


def known_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read only where it is not known yet; a second caller waits for the first.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.
    """
    status = path.stat()
    if status.st_size < LARGE:
        return digest_file(path)
    facts = (path.resolve(), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    key = digest_bytes("\0".join(map(str, facts)).encode(errors="surrogateescape"))
    if time.time() - max(status.st_mtime, status.st_ctime) < SETTLED_SECONDS:
        return digest_file(path)
    with _lock:
        mine = key not in _known
        future = _known.setdefault(key, Future())
    if mine:
        try:
            future.set_result(_stored(key) or _stored_now(key, digest_file(path)))
        except BaseException as error:
            with _lock:
                del _known[key]
            future.set_exception(error)
            raise
    return future.result()


def read_together(files: Sequence[Path]) -> None:
    """Have the digests of several files known, reading them side by side."""
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(known_digest, files))


def _place(key: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "refusal-lens" / "digests" / key


def _stored(key: str) -> str | None:
    try:
        text = _place(key).read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return text if _HEX.fullmatch(text) else None


def _stored_now(key: str, digest: str) -> str:
    try:
        _place(key).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(_place(key), digest.encode("ascii"))
    except (OSError, StorageError):
        pass  # it is read again
    return digest
