"""Digests of large files are known again while the file is the same, by threads and later processes, and not after a change."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refusal_lens.core import known_digests
from refusal_lens.core.known_digests import known_digest, read_together


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found: list[Path] = []

    def counted(path: Path) -> str:
        found.append(path)
        time.sleep(0.05)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(known_digests, "LARGE", 4)
    monkeypatch.setattr(known_digests, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(known_digests, "digest_file", counted)
    monkeypatch.setattr(known_digests, "_known", {})
    return found


def test_a_file_is_read_once_by_threads_and_later_processes(
    reads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"12345678")
    wanted = hashlib.sha256(b"12345678").hexdigest()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(known_digest, [file] * 8)) == {wanted}
    monkeypatch.setattr(known_digests, "_known", {})  # what a new process knows
    assert known_digest(file) == wanted
    assert reads == [file]


def test_a_changed_file_is_read_again_even_with_its_old_size_and_time(reads: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"12345678")
    known_digest(file)
    before = file.stat()
    time.sleep(0.02)
    file.write_bytes(b"87654321")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known_digest(file) == hashlib.sha256(b"87654321").hexdigest()
    assert len(reads) == 2


def test_a_damaged_or_unwritable_cache_costs_a_read_and_nothing_else(
    reads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"12345678")
    known_digest(file)
    (kept,) = (tmp_path / "cache" / "refusal-lens" / "digests").iterdir()
    kept.write_text("nonsense")
    monkeypatch.setattr(known_digests, "_known", {})
    assert known_digest(file) == hashlib.sha256(b"12345678").hexdigest()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    monkeypatch.setattr(known_digests, "_known", {})
    read_together([file, file])
    assert len(reads) == 3
