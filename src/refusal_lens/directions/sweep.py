"""The exact sweep: every score of every candidate, or only those a selection rule can need.

What a rule discards anyway is not measured by `needed_only`, in this order: the last 20 % of layers; then KL on harmless
prompts, cheapest to fail; under "arditi" steering of what is left; refusal of what is left; steering of the winner, so
that the chosen candidate has all its numbers. The choice is the full sweep's choice, whatever the prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from refusal_lens.directions.evaluation import Evaluation
from refusal_lens.types import Rule


@dataclass(frozen=True, slots=True)
class Limits:
    """What a rule demands of a candidate.

    Attributes:
        rule: The rule.
        kl: Largest KL score that passes, in nats.
        layer: First layer that is dropped.
    """

    rule: Rule
    kl: float
    layer: int

    def late_note(self) -> str:
        """Why candidates of late layers are not measured."""
        return f"not measured: in the last 20 % of layers (from {self.layer} on), which every rule drops"


def everything(evaluation: Evaluation) -> None:
    """Fill all three tables."""
    rows = range(len(evaluation.layers))
    columns = range(evaluation.divergence.n_prompts)
    evaluation.ablate(rows, harmful=range(evaluation.refusal.n_prompts), harmless=columns)
    evaluation.add(rows, harmless=columns)


def needed_only(evaluation: Evaluation, limits: Limits) -> dict[int, str]:
    """Fill only cells that can decide the choice.

    Args:
        evaluation: Tables of candidates and prompts.
        limits: The rule.

    Returns:
        Why a candidate lacks scores, by row.
    """
    every = range(len(evaluation.layers))
    harmful, harmless = range(evaluation.refusal.n_prompts), range(evaluation.divergence.n_prompts)
    notes = {row: limits.late_note() for row in every if evaluation.layers[row] >= limits.layer}
    early = [row for row in every if row not in notes]
    evaluation.ablate(early, harmless=harmless)
    left = [row for row in early if not (evaluation.means(row)[2] or 0.0) > limits.kl]
    notes |= {row: f"not measured further: KL above {limits.kl:g}" for row in early if row not in left}
    if limits.rule == "arditi":
        evaluation.add(left, harmless=harmless)
        passing = [row for row in left if not (evaluation.means(row)[1] or 0.0) < 0]
        notes |= {row: "not measured further: steering score below 0" for row in left if row not in passing}
        left = passing
    if not left:  # nobody passes: the report still names the best candidate there would have been
        evaluation.ablate(early, harmful=harmful)
        return notes
    evaluation.ablate(left, harmful=harmful)
    winner = min(left, key=lambda row: refusal_or_worst(evaluation, row))
    evaluation.add([winner], harmless=harmless)
    if limits.rule == "paper":
        notes |= {row: "steering not measured: rule 'paper' does not read it" for row in left if row != winner}
    return notes


def refusal_or_worst(evaluation: Evaluation, row: int) -> float:
    """A candidate's refusal score; infinity where it is not a number or not measured."""
    value = evaluation.refusal.mean(row)
    return math.inf if value is None or math.isnan(value) else value
