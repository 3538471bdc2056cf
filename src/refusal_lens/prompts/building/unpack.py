"""Taking the published files out of an archive without trusting it.

Only members whose path, with or without one leading folder, stands in the manifest are read; each must be a regular
file of exactly the manifest's size, is read at most that far, and counts only when its digest is right. So a path that
leaves the folder, a link, a device, a decompression bomb or a foreign file has nowhere to go. What must be decompressed
on the way (tar) is bounded too.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedIOBase, RawIOBase
from pathlib import Path
from typing import IO

from refusal_lens.errors import DataError
from refusal_lens.prompts.loading.published import FileDigest

MAX_MEMBERS = 200_000
MAX_UNPACKED = 4 << 30

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def is_archive(path: Path) -> bool:
    """Whether a file's content is a zip or tar archive."""
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error, tarfile.TarError):
        return False


def read_members(archive: Path, wanted: Mapping[str, FileDigest]) -> Iterator[tuple[str, bytes]]:
    """Read the wanted files of an archive."""
    try:
        if zipfile.is_zipfile(archive):
            yield from _from_zip(archive, wanted)
        else:
            yield from _from_tar(archive, wanted)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise DataError(f"{archive}: broken or unsupported archive ({error}); fetch it again") from None


def _from_zip(archive: Path, wanted: Mapping[str, FileDigest]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        if len(members) > MAX_MEMBERS:
            raise DataError(f"{archive}: {len(members):,} members; this is not the published data")
        for member in members:
            path = _wanted_path(member.filename, wanted)
            if path is None or member.is_dir() or member.file_size != wanted[path].size:
                continue
            with opened.open(member) as stream:
                content = _content(stream, wanted[path])
            if content is not None:
                yield path, content


def _from_tar(archive: Path, wanted: Mapping[str, FileDigest]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive, mode="r:*") as opened:
        seen = unpacked = 0
        for member in opened:
            seen += 1
            unpacked += max(member.size, 0)
            if seen > MAX_MEMBERS or unpacked > MAX_UNPACKED:
                raise DataError(f"{archive}: unpacks to more than the published data can have; wrong archive?")
            path = _wanted_path(member.name, wanted)
            if path is None or not member.isreg() or member.size != wanted[path].size:
                continue
            stream = opened.extractfile(member)
            content = None if stream is None else _content(stream, wanted[path])
            if content is not None:
                yield path, content


def _wanted_path(name: str, wanted: Mapping[str, FileDigest]) -> str | None:
    plain = name.removeprefix("./")
    if plain in wanted:
        return plain
    below = plain.partition("/")[2]
    return below if below in wanted else None


def _content(stream: IO[bytes] | BufferedIOBase | RawIOBase, digest: FileDigest) -> bytes | None:
    content = stream.read(digest.size + 1) or b""
    return content if hashlib.sha256(content).hexdigest() == digest.sha256 else None
