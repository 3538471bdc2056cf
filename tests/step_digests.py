"""Which version of each step belongs to which source, so that no result changes under an old key.

A step's digest is over what its results depend on and its key does not name: its file, helper files of `pipeline/steps` that
are no steps, and the functions it takes from other steps. Left out, because they cannot change a result under the same key:
docstrings, comments, imports, `plan`, `Params` and the `STEP` declaration.

    python tests/step_digests.py                       enter steps whose version was raised, and new ones
    python tests/step_digests.py --same-results NAME   enter a step whose results you know to be unchanged (a renaming, say)
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

from refusal_lens.pipeline import registry

TABLE = Path(__file__).parent / "data" / "step_digests.json"
STEPS = Path(registry.__file__).parent / "steps"
PACKAGE = "refusal_lens.pipeline.steps"
DECLARATIONS = {"plan", "Params", "STEP"}


def current() -> dict[str, dict[str, object]]:
    """Version and digest of every step as it stands."""
    files = {sys.modules[step.compute.__module__].__file__: step for step in registry.STEPS.values()}
    return {
        step.name: {"version": step.version, "digest": digest(Path(str(file)))} for file, step in sorted(files.items())
    }


def recorded() -> dict[str, dict[str, object]]:
    """Version and digest of every step as entered last."""
    return json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}


def digest(file: Path) -> str:
    """Digest of a step's file and of what it takes from other files of `steps`."""
    return hashlib.sha256("\n".join(_lines(file, None)).encode()).hexdigest()[:16]


def _lines(file: Path, names: set[str] | None) -> list[str]:
    """Definitions of a file without prose: all that are no declarations, or the named ones alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    lines: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and names is None and (node.module or "").startswith(f"{PACKAGE}."):
            other = STEPS / f"{str(node.module).rpartition('.')[2]}.py"
            is_step = "STEP" in {name for item in ast.parse(other.read_text()).body for name in _defines(item)}
            lines += _lines(other, {alias.name for alias in node.names} if is_step else None)
        own = _defines(node)
        if own and (not own & DECLARATIONS if names is None else bool(own & names)):
            lines.append(ast.unparse(_without_prose(node)))
    return lines


def _defines(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _without_prose(node: ast.stmt) -> ast.stmt:
    for item in ast.walk(node):
        if isinstance(item, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(item) is not None:
            item.body = item.body[1:] or [ast.Pass()]
    return node


def update(same_results: set[str]) -> list[str]:
    """Enter what may be entered.

    Args:
        same_results: Steps whose results are known to be unchanged.

    Returns:
        Steps that changed and kept their version: not entered.
    """
    before, now = recorded(), current()
    stuck = [
        name
        for name, item in now.items()
        if name in before and item != before[name] and item["version"] == before[name]["version"]
    ]
    refused = sorted(set(stuck) - same_results)
    kept = {name: before[name] if name in refused else item for name, item in now.items()}
    TABLE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return refused


if __name__ == "__main__":
    words = sys.argv[1:]
    left = update(set(words[1:]) if words[:1] == ["--same-results"] else set())
    if left:
        sys.exit(
            f"not entered, their source changed and their version did not: {', '.join(left)}; raise version in STEP"
        )
