"""Names that several rooms read alike: of directions and of the untouched model; and the size of the tests.

A direction's name is its source language, or one of these: `pooled` (mean over the sources), `pooled-without-X` (over all
but X), `random-i` and `shuffled` (nulls).
"""

from __future__ import annotations

ALPHA = 0.05
"""Size of every test: a p value below it counts."""

BASELINE = "baseline"
RANDOM = "random-"
SHUFFLED = "shuffled"
POOLED = "pooled"
WITHOUT = "pooled-without-"

PANEL = " & "
"""Joins the names of a panel's judges; the first judge's verdict is the row's."""

AGREE = "agree"
DISAGREE = "judges disagree"
"""What the judges of a panel say of a comparison's direction."""


def is_null(source: str) -> bool:
    """Whether a source is a null direction: random, or from shuffled labels."""
    return source.startswith((RANDOM, SHUFFLED))


def is_pool(source: str) -> bool:
    """Whether a source is pooled over languages."""
    return source == POOLED or source.startswith(WITHOUT)
