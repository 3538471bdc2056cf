"""The steps of an audit: each a function from a job to files, with a version that makes old results stale when it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refusal_lens.pipeline.steps import (
    activations,
    answers,
    base,
    damage,
    extraction,
    geometry,
    intake,
    pools,
    selection,
    stability,
    tables,
    universality,
)
from refusal_lens.pipeline.workshop import Job

STEPS: Mapping[str, Callable[[Job], None]] = {
    "prompts": intake.prompts,
    "tokens": extraction.tokens,
    "filtering": extraction.filtering,
    "candidates": extraction.candidates,
    "scores": selection.scores,
    "selection": selection.selection,
    "direction": pools.direction,
    "completions": answers.completions,
    "verdicts": answers.verdicts,
    "rates": tables.rates,
    "overview": tables.overview,
    "damage": damage.damage,
    "universality": universality.universality,
    "activations": activations.activations,
    "stability": stability.stability,
    "base": base.base,
    "geometry": geometry.geometry,
}

VERSIONS: Mapping[str, int] = dict.fromkeys(STEPS, 1) | {"completions": 2, "verdicts": 2}
