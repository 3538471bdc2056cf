"""Every command line in README and docs is one that the command accepts: names, options and values, without running it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from refusal_lens.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELLIPSIS = re.compile(r"^\.\.+$|^…$|^\[.*|.*\]$")


def _commands(page: Path) -> list[str]:
    """Lines of code blocks that call the command; what follows a comment, pipe or redirection is not ours."""
    found: list[str] = []
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        text = line.strip().removeprefix("$ ").removeprefix("- run: ")
        if (fenced or line.startswith("    ")) and text.startswith("refusal-lens "):
            found.append(re.split(r"\s#\s|\s{3,}|\s\|\s|\s>\s?|\s2>|\s&&\s|\s<\s", text)[0].rstrip("\\ "))
    return found


CASES = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in _commands(page)]


@pytest.mark.parametrize(("page", "line"), CASES, ids=lambda value: value if len(value) < 40 else value[:60])
def test_a_documented_command_is_one_that_exists(page: str, line: str):
    words = [word for word in shlex.split(line)[1:] if not ELLIPSIS.match(word)]
    command = typer.main.get_command(app)
    path = ["refusal-lens"]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{page}: `{' '.join(path)}` has no command {words[0]!r}"
        path.append(words[0])
        command = command.commands[words.pop(0)]
    if "--version" in words or "--help" in words:
        return
    command.make_context(" ".join(path), words)  # raises on an unknown option, a missing argument, a value out of range


def test_the_pages_have_commands_to_look_at():
    assert len(CASES) > 40
    assert {page for page, _ in CASES} >= {"README.md", "docs/first-audit.md", "docs/gate.md"}
