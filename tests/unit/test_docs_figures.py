"""Every picture in README and docs is a file whose command docs/images/sources.toml names; measured numbers name theirs.

A table whose cells are mostly numbers says in its own section, or in the one around it, which command prints them; where none is
kept, the section says so in these words: "no command". A paragraph of the README with a share names a command or its page.
Decisions are left out: they are dated notes.
"""

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


RUN = r"(?:refusal-lens [a-z]|python (?:-m )?(?:bench|pytest)|make [a-z])"
COMMAND = re.compile(rf"`[^`]*\b{RUN}|^ *(?:\S*/)?{RUN}", re.MULTILINE)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
TABLE = re.compile(r"(?:^ *\|.*\|\s*\n){3,}", re.MULTILINE)
SHARE = re.compile(r"\d\s?%")


def is_number(cell: str) -> bool:
    """A cell that is a number with its unit, interval or count, not a sentence that has one."""
    return bool(re.search(r"\d", cell)) and len(re.findall(r"[A-Za-z]{3,}", cell)) < 4


def numbers_in(table: str) -> float:
    """Share of cells that are numbers, the head and the first column left out."""
    lines = [line.strip().strip("|").split("|")[1:] for line in table.strip().splitlines()[2:]]
    cells = [cell.strip() for line in lines for cell in line]
    return sum(map(is_number, cells)) / len(cells) if cells else 0.0


def surroundings(text: str, place: int) -> list[str]:
    """The section that holds a place, then the ones around it, each down to its last subsection; the page's title has none."""
    heads = [
        (found.start(), len(found[1]))
        for found in HEADING.finditer(re.sub(r"```.*?```", _blank, text, flags=re.DOTALL))
    ]
    found: list[str] = []
    level = 9
    for start, depth in reversed([head for head in heads if head[0] <= place]):
        if 1 < depth < level:
            level = depth
            end = next((other for other, its in heads if other > start and its <= depth), len(text))
            found.append(text[start:end])
    return found or [text]


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


def measured_tables() -> list[tuple[str, int]]:
    return [
        (str(page.relative_to(ROOT)), table.start())
        for page in PAGES
        if page.parent.name != "decisions"
        for table in TABLE.finditer(page.read_text(encoding="utf-8"))
        if numbers_in(table[0]) > 0.5
    ]


def test_tables_of_measured_numbers_are_found_at_all() -> None:
    assert {page for page, _ in measured_tables()} >= {"docs/monitor.md", "docs/real-models.md", "docs/testbed.md"}


@pytest.mark.parametrize(("page", "place"), measured_tables())
def test_a_table_of_measured_numbers_names_the_command_that_prints_them(page: str, place: int) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    line = text.count("\n", 0, place) + 2
    known = any(COMMAND.search(part) or "no command" in part for part in surroundings(text, place))
    assert known, f"{page}:{line}: name the command of these numbers in this section, or say that there is no command"


def test_a_share_in_the_readme_stands_beside_its_command_or_its_page() -> None:
    paragraphs = re.split(r"\n\s*\n", (ROOT / "README.md").read_text(encoding="utf-8"))
    told = [part for part in paragraphs if SHARE.search(part)]
    assert told
    for part in told:
        assert COMMAND.search(part) or "](docs/" in part, part


def test_a_table_without_a_command_would_be_seen() -> None:
    text = "# Page\n`make demo`\n## A\n| a | b |\n|---|---|\n| x | 0.5 [0.1, 0.9] |\n\n## B\n`refusal-lens rates RUN`\n"
    [table] = TABLE.finditer(text)
    assert numbers_in(table[0]) == 1.0
    assert not any(COMMAND.search(part) for part in surroundings(text, table.start()))
