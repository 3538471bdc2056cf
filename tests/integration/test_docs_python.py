"""Every Python block of README and docs runs as it stands, and so does the notebook."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

import refusal_lens as rl
from refusal_lens.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SIGNATURES = {"docs/architecture.md": "outlines of signatures, no programs"}
ELSEWHERE = {
    "readme-test": "test_readme.py",
    "directions-test": "test_direction_command.py",
    "monitor-test": "test_monitor_command.py",
    "defence-test": "test_defences_fit.py",
}
"""Blocks with tests of their own, by the mark before them."""
SMALLER = """
from functools import partial
from refusal_lens import api
api.DirectionConfig = partial(api.DirectionConfig, n_train=16, n_val=8, discovery=8)
"""
"""Run before the notebook: its audit's directions rest on fewer prompts than a user's."""
RUNS = ("first", "qwen", "r1")


class Block(NamedTuple):
    """One Python block: its page, line and code, and the mark in the comment before it."""

    page: str
    line: int
    mark: str
    code: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"(?:<!-- ([\w-]+) -->\n)?```python\n(.*?)```", text, re.DOTALL):
            yield Block(
                page.relative_to(ROOT).as_posix(), text[: found.start()].count("\n") + 1, found[1] or "", found[2]
            )


BLOCKS = [block for block in blocks() if block.page not in SIGNATURES]
HERE = [block for block in BLOCKS if block.mark not in ELSEWHERE]


@pytest.fixture(scope="module")
def place(small_audit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run under the names that the pages use, and a data set of one's own."""
    folder = tmp_path_factory.mktemp("docs")
    made = shutil.copytree(small_audit, folder / "runs" / RUNS[0])
    for name in RUNS[1:]:
        (folder / "runs" / name).symlink_to(made, target_is_directory=True)
    rows = [f"Swali la {index}?,sw,harmless,test" for index in range(3)]
    (folder / "own.csv").write_text("\n".join(["text,lang,harm,split", *rows]) + "\n", encoding="utf-8")
    words = ["data", "build", "--prompts", folder / "own.csv", "--no-translate", "--out", folder / "mine"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, (result.output, result.exception)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("block", HERE, ids=lambda block: f"{block.page}:{block.line}")
def test_a_documented_block_runs(block: Block, place: Path) -> None:
    with chdir(place):
        exec(compile(block.code, f"{block.page}:{block.line}", "exec"), {"rl": rl})


@pytest.mark.slow
@pytest.mark.timeout(900)  # a kernel is a session of its own, which a busy machine may starve
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "docs" / "first-direction.ipynb", as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "commit it without outputs"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SMALLER))
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    labels = next(item["data"]["text/plain"] for item in outputs if "'complied'" in str(item.get("data")))
    assert labels == "['refused', 'complied']"
    assert any("<table>" in item.get("data", {}).get("text/html", "") for item in outputs), "the run shows itself"
    pictures = [str(item["data"]["image/svg+xml"]) for item in outputs if "image/svg+xml" in item.get("data", {})]
    assert pictures and pictures[0].startswith("<svg"), "so does its chart, without a network"


def test_the_pages_have_blocks_to_run_and_every_mark_is_known() -> None:
    assert len(HERE) >= 4
    assert {block.mark for block in BLOCKS} - {"", "run"} == set(ELSEWHERE)
    for mark, file in ELSEWHERE.items():
        assert any(mark in path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file))
