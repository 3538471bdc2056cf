"""The shipped models by name: where they lie, which base each came from, and what is true of them by construction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from refusal_lens.errors import UserError
from refusal_lens.types import JsonValue

MODELS = Path(__file__).parent / "models"
NAMES = ("universal", "aligned", "partial", "separate")
BASES = ("base", "base-separate")


@dataclass(frozen=True, slots=True)
class Truth:
    """What the training made true, before anything is measured.

    Attributes:
        languages: All languages the model speaks.
        aligned: Languages it was taught to refuse in; in the others it complies.
        shared: Whether one direction should serve every language; None where construction does not decide it.
        says: The truth in one sentence.
    """

    languages: tuple[str, ...]
    aligned: tuple[str, ...]
    shared: bool | None
    says: str


def names() -> tuple[str, ...]:
    """The four audited models, from the most shared refusal to the least."""
    return NAMES


def locate(name: str) -> Path:
    """Folder of a shipped model, in the layout `AutoModelForCausalLM` reads.

    Args:
        name: One of `names()`, or one of the unaligned bases "base" and "base-separate".

    Returns:
        An existing folder.

    Raises:
        UserError: No such model (the message names the nearest), or its weights are not installed.
    """
    folder = _folder(name)
    if not (folder / "model.safetensors").is_file():
        raise UserError(
            f"the weights of testbed:{name} are not in {folder}: reinstall the package, "
            f"or make them with `refusal-lens testbed train {name} --out FOLDER` and name that folder as the model"
        )
    return folder


def base_of(name: str) -> Path | None:
    """The unaligned base a model was made from: the null for cosines between its languages.

    Args:
        name: One of `names()`; a base has no base.

    Returns:
        Its folder, or None for a base.

    Raises:
        UserError: No such model.
    """
    base = None if name in BASES else _recipe(name)["base"]
    return None if base is None else locate(str(base))


def truth(name: str) -> Truth:
    """What is true of a model by construction.

    Args:
        name: One of `names()`, or a base (aligned in no language).

    Returns:
        Its truth.

    Raises:
        UserError: No such model.
    """
    made = _recipe(name)
    design = made["design"]
    return Truth(tuple(design["languages"]), tuple(design["aligned"]), made["shared"], made["says"])


def card(name: str) -> dict[str, JsonValue]:
    """The model card as data: recipe, seed, digest, held-out figures per language, truth, limits.

    Args:
        name: As for `locate`.

    Returns:
        The content of `card.json` beside the weights.

    Raises:
        UserError: No such model, or no card beside it.
    """
    path = locate(name) / "card.json"
    if not path.is_file():
        raise UserError(
            f"testbed:{name} has no card at {path}: `refusal-lens testbed evaluate {name}` measures it anew"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _folder(name: str) -> Path:
    known = (*NAMES, *BASES)
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(f"no testbed model {name!r}: did you mean testbed:{near}? There are {', '.join(known)}")
    return MODELS / name


def _recipe(name: str) -> dict[str, Any]:
    """How a shipped model was made: its `recipe.json`, written when it was trained."""
    return json.loads((_folder(name) / "recipe.json").read_text(encoding="utf-8"))
