"""The published files: which, at which commit, with which digests, from which sources. No prompt is in this package.

`published.json` holds the path, SHA-256 and size of every file at the pinned commit; `sources.toml` the licence and
citation of every prompt source.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

_SOURCE_TEXTS = ("name", "what", "licence", "stated", "citation")
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class FileDigest:
    """SHA-256 (64 hexadecimal digits) and size in bytes of a file."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where prompts come from.

    Attributes:
        name: Short name.
        what: Which prompts.
        files: Beginnings of the paths or names of its files.
        licence: SPDX identifier, or that none is stated.
        stated: Where the licence was read.
        citation: Whom to cite.
    """

    name: str
    what: str
    files: tuple[str, ...]
    licence: str
    stated: str
    citation: str


@dataclass(frozen=True)
class Published:
    """The published data set.

    Attributes:
        repository: Owner and name.
        commit: The pinned commit, 40 hexadecimal digits.
        files: Path inside the repository -> digest.
        sources: Provenance of the prompts.
    """

    repository: str
    commit: str
    files: Mapping[str, FileDigest]
    sources: tuple[Source, ...]

    @property
    def url(self) -> str:
        """Folder from which single files can be fetched."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}"


@cache
def published() -> Published:
    """The published data set as this version of the package knows it."""
    raw = cast("dict[str, object]", json.loads((_HERE / "published.json").read_text(encoding="utf-8")))
    files = cast("dict[str, dict[str, object]]", raw["files"])
    listed = cast(
        "list[dict[str, object]]", tomllib.loads((_HERE / "sources.toml").read_text(encoding="utf-8"))["source"]
    )
    sources = [
        Source(files=tuple(cast("list[str]", entry["files"])), **{name: str(entry[name]) for name in _SOURCE_TEXTS})
        for entry in listed
    ]
    digests = {path: FileDigest(str(entry["sha256"]), int(str(entry["bytes"]))) for path, entry in files.items()}
    return Published(str(raw["repository"]), str(raw["commit"]), digests, tuple(sources))
