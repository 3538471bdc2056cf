"""The report and its figures: drawn from the tables, never read back, and still known by digest in `rendered.json`.

The new report's digests are written as `next` before its first file is, and become `files` after its last. A kill in between
leaves files of the old and the new report side by side, and both are known. A file that is in neither list, or has another
digest, is quarantined; nothing is repaired here, the report is drawn anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refusal_lens.core.digests import digest_bytes, digest_file
from refusal_lens.core.files import PRIVATE_FILE, PUBLIC_FILE, is_temporary, write_atomic
from refusal_lens.core.json_files import pretty_json
from refusal_lens.errors import RunError
from refusal_lens.rundir.layout import Layout
from refusal_lens.rundir.records import read_object, seal, unseal
from refusal_lens.types import JsonValue

RENDERED_SCHEMA = 1
FILE = "rendered.json"
PAGE = "report.html"
FOLDER = "figures"


@dataclass(frozen=True)
class _Drawn:
    """SHA-256 by path within the run: of the finished report, and of one that is being written."""

    files: Mapping[str, str] = field(default_factory=dict[str, str])
    next: Mapping[str, str] = field(default_factory=dict[str, str])

    def allows(self, name: str, path: Path) -> str | None:
        """Why a file is not believed; None when it is."""
        digests = {self.files.get(name), self.next.get(name)} - {None}
        if path.is_symlink() or not path.is_file() or not digests:
            return "foreign, no report drew it"
        return None if digest_file(path) in digests else "does not have its recorded digest"


def render(run: Layout, files: Mapping[str, bytes], *, private: Collection[str] = ()) -> None:
    """Write a report; what it no longer draws, and what lies in its place unrecorded, is quarantined. See `RunDir.render`."""
    for path, why in list(unknown_drawings(run.root)):
        run.quarantine([path], f"{path.relative_to(run.root)}: {why}")
    known = _known(run.root)
    wanted = {name: digest_bytes(content) for name, content in files.items()}
    kept = {name: digest for name, digest in known.files.items() if name == PAGE and name not in wanted}
    gone = [run.root / name for name in known.files if name not in wanted | kept and (run.root / name).exists()]
    _write(run.root, _Drawn(known.files, kept | wanted))
    if gone:
        run.quarantine(gone, "drawn by an earlier report")
    for name, content in files.items():
        mode = PRIVATE_FILE if name in private else PUBLIC_FILE
        path = run.root / name
        if not path.is_file() or path.stat().st_mode & 0o777 != mode or digest_file(path) != wanted[name]:
            write_atomic(path, content, mode=mode)
    _write(run.root, _Drawn(kept | wanted))


def forget_page(run: Layout) -> bool:
    """Delete the page for good, since it may show completion text; gives whether there was one."""
    path = run.root / PAGE
    there = path.exists()
    path.unlink(missing_ok=True)
    known = _known(run.root)
    if PAGE in known.files or PAGE in known.next:
        _write(run.root, _Drawn({name: digest for name, digest in known.files.items() if name != PAGE}))
    return there


def unknown_drawings(root: Path) -> Iterator[tuple[Path, str]]:
    """Page and figures that no report drew, or that changed since, and why.

    Args:
        root: The run.

    Yields:
        Path and reason.
    """
    known = _known(root)
    figures = [root / FOLDER] if (root / FOLDER).is_symlink() else sorted((root / FOLDER).rglob("*"))
    for path in [root / PAGE, *figures]:
        if not (path.exists() or path.is_symlink()) or is_temporary(path.name):
            continue
        if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
            continue  # the files in it are looked at one by one
        why = known.allows(str(path.relative_to(root)), path)
        if why is not None:
            yield path, why


def drawn_damage(root: Path) -> list[str]:
    """What `unknown_drawings` cannot see, one line each: an altered list, files that are gone."""
    known = _read(root)
    if known is None:
        return [f"{FILE}: was altered"]
    expected = () if known.next else known.files
    return [f"{name}: is missing" for name in expected if not (root / name).exists()]


def page_is_intact(root: Path) -> bool:
    """Whether the page and all its figures lie there as they were drawn."""
    known = _known(root)
    return PAGE in known.files and not known.next and not drawn_damage(root) and not list(unknown_drawings(root))


def _known(root: Path) -> _Drawn:
    return _read(root) or _Drawn()


def _read(root: Path) -> _Drawn | None:
    """The list: empty where nothing was drawn yet, None where it cannot be believed."""
    if not (root / FILE).exists():
        return _Drawn()
    try:
        content = unseal(read_object(root / FILE))
    except RunError:
        return None
    if content is None:
        return None
    found = {key: value for key in ("files", "next") if isinstance(value := content.get(key), dict)}
    return _Drawn(**{key: {name: str(digest) for name, digest in value.items()} for key, value in found.items()})


def _write(root: Path, drawn: _Drawn) -> None:
    files: dict[str, JsonValue] = dict(sorted(drawn.files.items()))
    following: dict[str, JsonValue] = dict(sorted(drawn.next.items()))
    content: dict[str, JsonValue] = {"schema_version": RENDERED_SCHEMA, "files": files, "next": following}
    write_atomic(root / FILE, pretty_json(seal(content)), mode=PUBLIC_FILE)
