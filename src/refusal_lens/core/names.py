"""Names that several rooms read alike: of directions, of the prompts an intervention is read on, and the tests' size.

A direction's name is its source language, or one of these: `pooled` (mean over the sources), `pooled-without-X` (over all
but X), `random-i` and `shuffled` (nulls).
"""

from __future__ import annotations

from collections.abc import Mapping

from refusal_lens.types import Harm, InterventionName

ALPHA = 0.05
"""Size of every test: a p value below it counts."""

BASELINE: InterventionName = "baseline"
RANDOM = "random-"
SHUFFLED = "shuffled"
POOLED = "pooled"
WITHOUT = "pooled-without-"

READ_ON: Mapping[str, Harm] = {"ablation": "harmful", "addition": "harmless"}
"""The class of prompts on which each intervention's own effect is read."""


def is_null(source: str) -> bool:
    """Whether a source is a null direction: random, or from shuffled labels."""
    return source.startswith((RANDOM, SHUFFLED))


def is_pool(source: str) -> bool:
    """Whether a source is pooled over languages."""
    return source == POOLED or source.startswith(WITHOUT)
