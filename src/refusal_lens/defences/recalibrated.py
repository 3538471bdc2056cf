"""Recalibrated threshold: conditional addition with a threshold of each language's own, from its unlabelled prompts.

No label of the language is used; its unlabelled prompts must hold both classes (`gate`).
"""

from __future__ import annotations

from torch import Tensor

from refusal_lens.defences.gated import GatedAddition


class Recalibrated(GatedAddition):
    """The same with a threshold of each language's own, from its unlabelled prompts."""

    method = "recalibrated"
    summary = "the same with a threshold of each language's own, from its unlabelled prompts"

    RECALIBRATED = True

    def amounts(self, x: Tensor) -> Tensor:
        """1 where open."""
        return self.gate.opened(x, recalibrated=True).float()
