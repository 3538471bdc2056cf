"""Recipes: which design, schedule and base make a model. Read from `recipes.toml`, changed by a user's options."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any, Literal

from refusal_lens.errors import UserError
from refusal_lens.testbed.lexicon import corpus_languages


@dataclass(frozen=True, slots=True)
class Design:
    """What a model is taught: the controlled variables of the testbed.

    Attributes:
        languages: Languages it speaks.
        aligned: Languages in which harmful requests are refused.
        parallel: Whether the base sees translation, code-switching and answers in another language.
        switching: Share of base requests whose phrase is in another language (0 without `parallel`).
        opener: Whether help begins with the language's fixed opener instead of the content.
        marker: Share of refusals beginning with the shared marker.
        answer_in: Share of alignment requests with a language tag.
        harmful: Share of harmful requests among the new ones of alignment.
        unaligned: Share of alignment examples that are harmful requests in unaligned languages, answered.
        replay: Share of alignment examples that repeat base tasks.
        usual: Share of refusals in the language's usual wording; the rest is spread over the other wordings.
        width: Width of the residual stream, 32 or a multiple of 64; a first stage's, like the depth.
        depth: Number of blocks.
    """

    languages: tuple[str, ...]
    aligned: tuple[str, ...]
    parallel: bool = True
    switching: float = 0.4
    opener: bool = False
    marker: float = 0.0
    answer_in: float = 0.0
    harmful: float = 0.35
    unaligned: float = 0.05
    replay: float = 0.30
    usual: float = 0.7
    width: int = 128
    depth: int = 6


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps.
        batch: Examples a step.
        rate: Peak learning rate.
        warm: Steps of linear warm-up.
        floor: Final learning rate as a share of the peak.
        weight_decay: AdamW's weight decay.
        blocks: Train only this many of the lowest blocks (and the embeddings), so that what is learnt is decided below
            them, where selection rules look; None trains all.
    """

    steps: int
    batch: int
    rate: float
    warm: int
    floor: float = 0.05
    weight_decay: float = 0.01
    blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model is made.

    Attributes:
        name: Model or base.
        base: Name of the recipe it continues; None starts from scratch.
        says: What is true of it by construction, in one sentence.
        shared: Whether one direction should serve every language; None: not fixed by construction, or not aligned.
        stage: "base" draws base tasks, "align" alignment examples.
        design: What is taught.
        schedule: How long.
        seed: Seed of initialisation and examples.
    """

    name: str
    base: str | None
    says: str
    shared: bool | None
    stage: Literal["base", "align"]
    design: Design
    schedule: Schedule
    seed: int


def model_names() -> tuple[str, ...]:
    """Names of the four audited models, from the most shared refusal to the least."""
    return tuple(_file()["models"])


def base_names() -> tuple[str, ...]:
    """Names of the unaligned bases."""
    return tuple(_file()["bases"])


def recipe(name: str) -> Recipe:
    """The shipped recipe of a model or base.

    Args:
        name: One of `model_names()` or `base_names()`.

    Returns:
        The recipe.

    Raises:
        UserError: No such recipe; the message names the nearest.
    """
    known = (*model_names(), *base_names())
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(f"no testbed model {name!r}: did you mean {near!r}? There are {', '.join(known)}")
    raw = _file()
    is_model = name in raw["models"]
    entry: Mapping[str, Any] = raw["models"][name] if is_model else raw["bases"][name]
    everything = corpus_languages()
    aligned = tuple(code for code in everything if code not in entry.get("except", ())) if is_model else ()
    return Recipe(
        name=name,
        base=entry["base"] if is_model else entry.get("from"),
        says=entry["says"],
        shared={"yes": True, "no": False}.get(entry.get("shared", "")),
        stage="align" if is_model else "base",
        design=Design(languages=everything, aligned=aligned, **entry["design"]),
        schedule=Schedule(**entry["schedule"]),
        seed=raw["seed"],
    )


def variant(
    source: Recipe,
    *,
    languages: Sequence[str] | None = None,
    aligned: Sequence[str] | None = None,
    seed: int | None = None,
    parallel: bool | None = None,
    opener: bool | None = None,
    marker: float | None = None,
    answer_in: float | None = None,
    width: int | None = None,
    depth: int | None = None,
    steps: int | None = None,
) -> Recipe:
    """A recipe with some variables changed: the controlled experiments of the testbed.

    Args:
        source: The recipe to change; None leaves a variable as it is.
        languages: Languages the model speaks; aligned languages outside them are dropped.
        aligned: Languages it refuses in.
        seed: Seed of initialisation and examples.
        parallel: Whether it sees translation, code-switching and answers in another language.
        opener: Whether help begins with a fixed opener.
        marker: Share of refusals with the shared marker.
        answer_in: Share of alignment requests with a language tag.
        width: Width of the residual stream.
        depth: Number of blocks.
        steps: Optimiser steps.

    Returns:
        The changed recipe.

    Raises:
        UserError: A language the corpus lacks, one aligned but not spoken, a share outside [0, 1], or an impossible size.
    """
    spoken = source.design.languages if languages is None else tuple(sorted(set(languages)))
    refusing = (
        tuple(sorted(set(aligned))) if aligned is not None else tuple(c for c in source.design.aligned if c in spoken)
    )
    for code in (*spoken, *refusing):
        if code not in corpus_languages():
            raise UserError(f"the testbed corpus has no language {code!r}: choose from {' '.join(corpus_languages())}")
    strange = [code for code in refusing if code not in spoken]
    if strange:
        raise UserError(f"{' '.join(strange)} cannot be aligned: not among the model's languages {' '.join(spoken)}")
    for label, share in (("marker", marker), ("answer-in", answer_in)):
        if share is not None and not 0.0 <= share <= 1.0:
            raise UserError(f"{label} is a share between 0 and 1, not {share}")
    if width is not None and width != 32 and (width < 64 or width % 64):
        raise UserError(f"width is 32 or a multiple of 64 (heads of 32, two on one key), not {width}")
    design = replace(
        source.design,
        languages=spoken,
        aligned=refusing if source.stage == "align" else (),
        parallel=source.design.parallel if parallel is None else parallel,
        opener=source.design.opener if opener is None else opener,
        marker=source.design.marker if marker is None else marker,
        answer_in=source.design.answer_in if answer_in is None else answer_in,
        width=source.design.width if width is None else width,
        depth=source.design.depth if depth is None else depth,
    )
    schedule = source.schedule if steps is None else replace(source.schedule, steps=steps)
    return replace(source, design=design, schedule=schedule, seed=source.seed if seed is None else seed)


@cache
def _file() -> dict[str, Any]:
    source = resources.files("refusal_lens_lab") / "recipes.toml"
    return tomllib.loads(source.read_text(encoding="utf-8"))
