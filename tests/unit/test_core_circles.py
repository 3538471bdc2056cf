"""No two modules import each other, not even for the type checker: a file can be read with only those below it in mind."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import refusal_lens

SOURCE = Path(refusal_lens.__file__).parent
MODULES = {
    ".".join(("refusal_lens", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}
ROOMS = sorted({name.split(".")[1] for name in MODULES if name.count(".") > 1})


def imported(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_circle(room: str) -> None:
    inside = [name for name in MODULES if name.startswith(f"refusal_lens.{room}.")]
    assert inside
    graph = {name: [other for other in imported(name) if other in inside] for name in inside}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle
