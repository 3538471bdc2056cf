"""Every package that the source imports is declared, and every declared one is imported: no import works by accident."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
OPTIONAL = {
    "ray": "ray",
    "fsspec": "ray",
    "peft": "adapters",
    "gguf": "gguf",
    "inspect_ai": "inspect",
    "anyio": "inspect",
    "cryptography": "sign",
    "anyascii": "monitor",
    "fastapi": "serve",
    "uvicorn": "serve",
    "vllm": "vllm",
}  # import -> extra; imported inside a function or a module of its own
NEVER_IMPORTED = {"accelerate": "transformers needs it to place a model on devices"}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", requirement)[0]).lower()


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """Third-party imports and the distributions that may provide them."""
    own = {path.name for path in (PROJECT / "src").iterdir()}
    found = {name for file in (PROJECT / "src").rglob("*.py") for name in imports(file)}
    providers = packages_distributions()
    return {
        name: {name_of(provider) for provider in providers.get(name, [name])}
        for name in found - own - set(sys.stdlib_module_names)
    }


def test_what_is_imported_is_declared(project: dict[str, object], imported: dict[str, set[str]]) -> None:
    declared = {name_of(line) for line in project["dependencies"]}  # type: ignore[attr-defined]
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    undeclared = {
        name
        for name, providers in imported.items()
        if not providers & (declared | {name_of(line) for line in extras.get(OPTIONAL.get(name, ""), [])})
    }
    assert undeclared == set()


def test_what_is_declared_is_imported(project: dict[str, object], imported: dict[str, set[str]]) -> None:
    declared = {name_of(line) for line in project["dependencies"]}  # type: ignore[attr-defined]
    assert declared - set().union(*imported.values()) == NEVER_IMPORTED.keys()
    assert imported.keys() >= OPTIONAL.keys()
