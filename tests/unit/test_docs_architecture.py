"""The architecture page names nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = sorted(set(re.findall(r"`([\w/.-]+\.(?:py|toml|json|md))`", PAGE)))
PLACES = (ROOT, ROOT / "src" / "refusal_lens")
OF_A_RUN = {"run.json", "plan.json", "published.json", "failures.json", "rendered.json", "signature.json", "layout.py"}


@pytest.mark.parametrize("name", [name for name in FILES if name not in OF_A_RUN])
def test_a_file_that_the_page_names_is_there(name: str):
    assert any((place / name).is_file() for place in PLACES)


def test_every_room_is_on_the_page():
    rooms = {place.name for place in (ROOT / "src" / "refusal_lens").iterdir() if (place / "__init__.py").is_file()}
    drawn = PAGE.partition("```")[2].partition("```")[0]
    assert {room for room in rooms if not re.search(rf"\b{room}\b", drawn)} == set()


def test_the_page_has_its_walks():
    walks = re.findall(r"^\*\*(One prompt|One direction|A new \w+)", PAGE, flags=re.MULTILINE)
    assert walks == [
        "One prompt",
        "One direction",
        "A new intervention",
        "A new step",
        "A new judge",
        "A new architecture",
    ]
