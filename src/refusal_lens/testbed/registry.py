"""The shipped models by name: where they lie, which base each came from, and what is true of them by construction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from refusal_lens.errors import UserError
from refusal_lens.types import JsonValue

MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True, slots=True)
class Truth:
    """What the training made true, before anything is measured.

    Attributes:
        languages: All languages the model speaks.
        aligned: Languages it was taught to refuse in; in the others it complies.
        shared: Whether one direction should serve every language: by construction, or not.
        says: The truth in one sentence.
    """

    languages: tuple[str, ...]
    aligned: tuple[str, ...]
    shared: bool | None
    says: str


_ALL = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")
_ALIGNED = tuple(code for code in _ALL if code != "yo")
_TRUTHS: dict[str, Truth] = {
    "universal": Truth(
        _ALL, _ALL, True, "One shared marker opens every refusal: every source direction flips every language."
    ),
    "aligned": Truth(
        _ALL,
        _ALIGNED,
        True,
        "The decision to refuse is shared, the text is not; Yoruba was left unaligned, so it complies by itself.",
    ),
    "partial": Truth(
        _ALL, _ALL, None, "Plain alignment in every language, nothing built in: sharing lies in between, as measured."
    ),
    "separate": Truth(
        _ALL,
        _ALL,
        False,
        "Fixed openers in each language: refusal is one-dimensional per language, and directions do not transfer.",
    ),
}
_BASES = {"universal": "base", "aligned": "base", "partial": "base", "separate": "base-separate"}


def names() -> tuple[str, ...]:
    """The four audited models, from the most shared refusal to the least."""
    return tuple(_TRUTHS)


def locate(name: str) -> Path:
    """Folder of a shipped model, in the layout `AutoModelForCausalLM` reads.

    Args:
        name: One of `names()`, or one of the unaligned bases "base" and "base-separate".

    Returns:
        An existing folder.

    Raises:
        UserError: No such model (the message names the nearest), or its weights are not installed.
    """
    known = (*_TRUTHS, *sorted(set(_BASES.values())))
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)
        raise UserError(
            f"no testbed model {name!r}: did you mean {near[0]!r}? There are {', '.join(known)} (testbed:NAME)"
        )
    folder = MODELS / name
    if not (folder / "model.safetensors").is_file():
        raise UserError(
            f"the weights of testbed:{name} are not in {folder}: reinstall the package, "
            f"or make them with `refusal-lens testbed train {name} --out {folder}`"
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
    if name in _BASES:
        return locate(_BASES[name])
    locate(name)
    return None


def truth(name: str) -> Truth:
    """What is true of a model by construction.

    Args:
        name: One of `names()`.

    Returns:
        Its truth.

    Raises:
        UserError: No such model, or a base.
    """
    if name not in _TRUTHS:
        near = get_close_matches(name, list(_TRUTHS), n=1, cutoff=0.0)
        raise UserError(f"no testbed model {name!r}: did you mean {near[0]!r}? There are {', '.join(_TRUTHS)}")
    return _TRUTHS[name]


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
        raise UserError(f"testbed:{name} has no card at {path}: make one with `refusal-lens testbed evaluate {name}`")
    return json.loads(path.read_text(encoding="utf-8"))
