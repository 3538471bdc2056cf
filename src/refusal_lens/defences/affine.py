"""Affine steering to the harmful mean: in open rows the projection on the refusal direction is set, not pushed.

    x' = x + open (target - x.u) u,   target = middle + k (harmful mean - middle)      at one layer, every position

Open is what the recalibrated gate says. An addition moves every activation by the same step; this one moves it to the same
place, however far it was. Source: affine concept editing, Marshall et al. 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from refusal_lens.defences.choosing import STRENGTHS, Fitting, random_like
from refusal_lens.defences.edits import SetProjection
from refusal_lens.defences.face import Card, Defence
from refusal_lens.defences.gate import Gate
from refusal_lens.defences.gated import Gated
from refusal_lens.model import Intervention, LensModel


class Affine(Gated):
    """Sets the projection of open rows to (beyond) the harmful mean."""

    method = "affine"
    summary = "sets the projection of prompts that the recalibrated gate opens for to the harmful mean"
    RECALIBRATED = True

    def __init__(self, card: Card, gate: Gate, unit: Tensor, layer: int, target: float) -> None:
        """Put the parts together.

        Args:
            card: Where it holds.
            gate: What is read.
            unit: Unit direction [d_model].
            layer: Where the projection is set.
            target: To what.
        """
        self.card, self.gate, self.unit, self.layer, self.target = card, gate, unit, layer, target

    @classmethod
    def candidates(cls, fitting: Fitting) -> list[Defence]:
        """What is chosen among, weakest first."""
        found, gate = fitting.read, fitting.needing
        pos = found.positions.index(gate.position)
        made: list[Defence] = []
        for strength in STRENGTHS:
            for index, layer in enumerate(found.layers):
                vector = found.difference(pos, index)
                unit = vector / vector.norm()
                high, low = (
                    float((found.train[harm][:, pos, index] @ unit).mean()) for harm in ("harmful", "harmless")
                )
                middle = (high + low) / 2
                settings = {"position": gate.position, "layer": layer, "strength": strength}
                card = fitting.card(cls.method, dict(settings))
                made.append(cls(card, gate, unit, layer, middle + strength * (high - middle)))
        return made

    def intervene(
        self, model: LensModel, instructions: Sequence[str], *, under: Sequence[Intervention] = ()
    ) -> Intervention:
        """A steering that knows which rows are open."""
        opened = self.decided(self.gate.read(model, instructions, under))
        return SetProjection(layer=self.layer, unit=self.unit, target=self.target, opened=opened)

    def decided(self, x: Tensor) -> Tensor:
        """Open rows."""
        return self.gate.opened(x, recalibrated=True)

    def tensors(self) -> dict[str, Tensor]:
        """Gate, direction, layer and target."""
        facts = torch.tensor([self.layer, self.target], dtype=torch.float64)
        return {**self.gate.tensors(), "unit": self.unit, "facts": facts}

    @classmethod
    def restore(cls, card: Card, tensors: Mapping[str, Tensor]) -> Defence:
        """From a file."""
        layer, target = tensors["facts"].tolist()
        return cls(card, Gate.restore(tensors, card.languages), tensors["unit"], int(layer), target)

    def null(self, seed: int) -> Defence:
        """The same along a random direction."""
        card = replace(self.card, method=f"{self.card.method}:random-{seed}")
        return type(self)(card, self.gate, random_like(self.unit, seed), self.layer, self.target)
