"""Conditional addition: the refusal direction is added where the prompt's score is above one threshold for all languages.

Conditional activation steering (CAST, Lee et al. 2024) with a logistic condition. A language whose scores lie lower is
let through: that is what `recalibrated` is about.
"""

from __future__ import annotations

from torch import Tensor

from refusal_lens.defences.gated import GatedAddition


class Conditional(GatedAddition):
    """Adds the refusal direction where the prompt's score is above one threshold (CAST)."""

    method = "conditional"
    summary = "adds the refusal direction where the prompt's score is above one threshold (CAST)"

    def amounts(self, x: Tensor) -> Tensor:
        """1 where open."""
        return self.gate.opened(x, recalibrated=False).float()
