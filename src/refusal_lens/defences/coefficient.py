"""A coefficient of each input's own: the direction is added in proportion to the prompt's probability of harm.

As AdaSteer (Zhao et al. 2025), with one logistic score. Nothing is closed: a harmless prompt gets a little.
"""

from __future__ import annotations

from torch import Tensor

from refusal_lens.defences.gated import GatedAddition


class Coefficient(GatedAddition):
    """Adds the refusal direction in proportion to the prompt's probability of harm (AdaSteer)."""

    method = "coefficient"
    summary = "adds the refusal direction in proportion to the prompt's probability of harm (AdaSteer)"
    STRENGTHS = (1.0, 1.5, 2.0)

    def amounts(self, x: Tensor) -> Tensor:
        """Probability of harm."""
        return self.gate.scores(x).sigmoid()
