"""Getting the published files: by HTTP from the pinned commit or a mirror, from an archive, or from a folder.

Steps: keep every file whose SHA-256 is already right; fetch the others into `.partial/`, going on where an earlier
attempt stopped; compare with the manifest; move into place; record where everything came from. A file that stands
there with other content is kept beside the right one as `NAME.replaced`. Nothing wrong ever gets its final name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from refusal_lens.core.digests import digest_file
from refusal_lens.core.files import PUBLIC_FILE, storing, write_atomic
from refusal_lens.core.redact import shown_url
from refusal_lens.errors import DataError
from refusal_lens.prompts.building.transfer import UnreachableError, fetch, open_client
from refusal_lens.prompts.building.unpack import ARCHIVE_SUFFIXES, is_archive, read_members
from refusal_lens.prompts.loading.published import FileDigest, Published, published

PROVENANCE = "PROVENANCE.json"
_PARTIAL = ".partial"
_MAX_ARCHIVE = 4 << 30


@dataclass(frozen=True, slots=True)
class Download:
    """What a download did.

    Attributes:
        dest: Folder that now holds the files.
        origin: Where they came from, without secrets.
        fetched: Files that were fetched now.
        kept: Files that were already right.
        replaced: Files that stood there with other content, now `NAME.replaced`.
    """

    dest: Path
    origin: str
    fetched: tuple[str, ...]
    kept: tuple[str, ...]
    replaced: tuple[str, ...]


def download(
    dest: Path,
    *,
    origin: str | None = None,
    data: Published | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Download:
    """Get all published files and verify each one.

    Args:
        dest: Folder to fill; created when missing.
        origin: URL of a folder or archive, path of an archive or folder; None for the pinned commit.
        data: What to get; the published data set when None.
        progress: Called with a file's path and the number of bytes each time some arrive.

    Returns:
        What was done.

    Raises:
        DataError: When files cannot be had or written, or their bytes are wrong. What is verified stays.
    """
    wanted = data or published()
    source = origin or wanted.url
    kept = {path for path, digest in wanted.files.items() if digest_of(dest / path) == digest}
    lacking = {path: digest for path, digest in wanted.files.items() if path not in kept}
    arrivals = _Arrivals(dest, progress)
    if lacking:
        with storing(dest):
            (dest / _PARTIAL).mkdir(parents=True, exist_ok=True)
        if urlsplit(source).scheme in {"http", "https"}:
            _from_url(source, lacking, arrivals)
        else:
            _from_path(Path(source).expanduser(), lacking, arrivals)
        shutil.rmtree(dest / _PARTIAL, ignore_errors=True)
    done = Download(dest, shown_origin(source), tuple(arrivals.placed), tuple(sorted(kept)), tuple(arrivals.replaced))
    if arrivals.placed or not (dest / PROVENANCE).exists():
        _record(done, wanted)
    return done


def shown_origin(origin: str) -> str:
    """An origin as it may be shown and recorded: without user, password or query."""
    return shown_url(origin) if origin.startswith(("http://", "https://")) else origin


def digest_of(path: Path) -> FileDigest | None:
    """Digest of a file's content, None where there is no readable regular file."""
    try:
        return FileDigest(digest_file(path), path.stat().st_size) if path.is_file() else None
    except OSError:
        return None


class _Arrivals:
    """Verified files on their way into place."""

    def __init__(self, dest: Path, progress: Callable[[str, int], None] | None) -> None:
        self.dest = dest
        self.progress = progress
        self.placed: list[str] = []
        self.replaced: list[str] = []

    def part(self, path: str) -> Path:
        return self.dest / _PARTIAL / f"{path}.part"

    def place(self, path: str, content: bytes) -> None:
        target = self.dest / path
        with storing(target):
            if target.exists():
                target.replace(target.with_name(f"{target.name}.replaced"))
                self.replaced.append(path)
        write_atomic(target, content, mode=PUBLIC_FILE)
        self.placed.append(path)
        if self.progress is not None:
            self.progress(path, 0)


def _from_url(url: str, wanted: Mapping[str, FileDigest], arrivals: _Arrivals) -> None:
    faults: list[DataError] = []
    with open_client() as client:
        if urlsplit(url).path.endswith(ARCHIVE_SUFFIXES):
            _from_remote_archive(client, url, wanted, arrivals)
            return
        for path, digest in wanted.items():
            try:
                arrivals.place(path, _fetched(client, _below(url, path), path, digest, arrivals))
            except UnreachableError:
                raise
            except DataError as fault:
                if not faults and not arrivals.placed and _serves_archive(client, url, wanted, arrivals):
                    return
                faults.append(fault)
    if faults:
        rest = f" (and {len(faults) - 1} more of {len(wanted)}; the others are in place)" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{rest}")


def _serves_archive(client: httpx.Client, url: str, wanted: Mapping[str, FileDigest], arrivals: _Arrivals) -> bool:
    """An address without an archive's suffix may still be one: look once, before giving up on single files."""
    try:
        _from_remote_archive(client, url, wanted, arrivals)
    except DataError:
        if arrivals.placed:
            raise
        return False
    return True


def _fetched(client: httpx.Client, url: str, path: str, digest: FileDigest, arrivals: _Arrivals) -> bytes:
    part = arrivals.part(path)
    for attempt in ("resumed", "fresh"):
        resumed = part.exists() and part.stat().st_size > 0
        if not (resumed and digest_of(part) == digest):
            if resumed and part.stat().st_size >= digest.size:
                part.unlink()
                resumed = False
            fetch(client, url, part, limit=digest.size, size=digest.size, progress=_counter(path, arrivals))
        found = digest_of(part)
        if found == digest:
            content = part.read_bytes()
            part.unlink()
            return content
        part.unlink(missing_ok=True)
        if attempt == "fresh" or not resumed:
            break
    got = f"SHA-256 {found.sha256[:12]}.., {found.size:,} bytes" if found else "nothing"
    raise DataError(
        f"{path}: wrong bytes from {shown_origin(url)} ({got}; expected {digest.sha256[:12]}.., {digest.size:,} bytes); "
        "nothing was written for it: is this the pinned commit?"
    )


def _from_remote_archive(client: httpx.Client, url: str, wanted: Mapping[str, FileDigest], arrivals: _Arrivals) -> None:
    part = arrivals.part("archive")
    resumed = part.exists()
    fetch(client, url, part, limit=_MAX_ARCHIVE, progress=_counter("archive", arrivals))
    if resumed and not is_archive(part):  # An archive has no digest here: a stale beginning shows only now.
        part.unlink()
        fetch(client, url, part, limit=_MAX_ARCHIVE, progress=_counter("archive", arrivals))
    try:
        _from_archive(part, shown_origin(url), wanted, arrivals)
    finally:
        part.unlink(missing_ok=True)


def _from_path(path: Path, wanted: Mapping[str, FileDigest], arrivals: _Arrivals) -> None:
    if path.is_dir():
        _from_folder(path, wanted, arrivals)
    elif path.is_file():
        _from_archive(path, str(path), wanted, arrivals)
    else:
        raise DataError(f"{str(path)!r}: no such archive or folder; --from takes a URL, an archive or a folder")


def _from_archive(archive: Path, shown: str, wanted: Mapping[str, FileDigest], arrivals: _Arrivals) -> None:
    if not is_archive(archive):
        raise DataError(f"{shown}: neither a zip nor a tar archive; --from takes a URL, an archive or a folder")
    for path, content in read_members(archive, wanted):
        if path not in arrivals.placed:
            arrivals.place(path, content)
    _complain(shown, [path for path in wanted if path not in arrivals.placed], len(wanted))


def _from_folder(folder: Path, wanted: Mapping[str, FileDigest], arrivals: _Arrivals) -> None:
    roots = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    lacking: list[str] = []
    for path, digest in wanted.items():
        found = next((root / path for root in roots if digest_of(root / path) == digest), None)
        if found is None:
            lacking.append(path)
        else:
            arrivals.place(path, found.read_bytes())
    _complain(str(folder), lacking, len(wanted))


def _complain(origin: str, lacking: list[str], asked: int) -> None:
    if lacking:
        some = ", ".join(lacking[:3]) + (", .." if len(lacking) > 3 else "")
        raise DataError(
            f"{origin}: {len(lacking)} of {asked} files absent or with wrong bytes ({some}); the others are in place"
        )


def _counter(path: str, arrivals: _Arrivals) -> Callable[[int], None] | None:
    progress = arrivals.progress
    return None if progress is None else lambda count: progress(path, count)


def _below(url: str, path: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(path)}"))


def _record(done: Download, data: Published) -> None:
    record = {
        "schema_version": 1,
        "repository": data.repository,
        "commit": data.commit,
        "origin": done.origin,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {path: digest.sha256 for path, digest in sorted(data.files.items())},
        "sources": [asdict(source) for source in data.sources],
    }
    write_atomic(done.dest / PROVENANCE, (json.dumps(record, indent=1) + "\n").encode(), mode=PUBLIC_FILE)
