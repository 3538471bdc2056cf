"""Every picture in README and docs is a file here, and docs/images/sources.toml says which command makes it."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
SOURCES: dict[str, dict[str, str]] = tomllib.loads((IMAGES / "sources.toml").read_text(encoding="utf-8"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN = re.compile(r"!\[[^\]]*\]\(([^)\s]+)|(?:src|srcset)=[\"']([^\"'\s]+)")


def pictures() -> list[tuple[Path, str]]:
    found = [(page, one or other) for page in PAGES for one, other in SHOWN.findall(page.read_text(encoding="utf-8"))]
    return [(page, target) for page, target in found if not target.startswith(("http://", "https://", "data:"))]


def test_pages_show_pictures_at_all() -> None:
    assert len(pictures()) >= 5


@pytest.mark.parametrize(("page", "target"), pictures(), ids=lambda value: str(value).rpartition("/")[2])
def test_a_picture_on_a_page_is_a_file_with_its_source(page: Path, target: str) -> None:
    place = (page.parent / target).resolve()
    assert place.is_file(), f"{page.name} shows {target}, which is not there"
    assert place.parent == IMAGES
    assert place.name in SOURCES, f"{place.name}: docs/images/sources.toml does not say where it comes from"


def test_every_picture_has_a_source_and_no_source_is_of_a_picture_that_is_gone() -> None:
    kept = {file.name for file in IMAGES.iterdir() if file.suffix in {".png", ".svg", ".jpg", ".webp"}}
    assert kept == set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_a_command_of_this_repository_or_a_drawing(name: str) -> None:
    source = SOURCES[name]
    assert len(source) == 1
    if "by_hand" in source:
        assert name.endswith(".svg")
        return
    first, *words = shlex.split(source["command"])
    assert first in {"python", "refusal-lens", "make"}
    if first == "python":
        script = words[1] if words[0] == "-m" else words[0]
        assert (ROOT / script).is_file() or (ROOT / script.replace(".", "/")).exists()
