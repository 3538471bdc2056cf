"""What the defences share that act on the prompts that a gate takes for harmful, and those of them that add the direction.

    x' = x + amount strength r        at one layer, every position; the amount of a row, 0 to 1, is the method's

Prompts are read first; the addition then has a row per prompt. Place and strength are those that make the model refuse
what the gate opens for in every language (`choosing`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from refusal_lens.defences.choosing import Fitting, Method, random_like
from refusal_lens.defences.face import Card, Defence
from refusal_lens.defences.gate import Gate
from refusal_lens.interventions import Addition
from refusal_lens.model import Intervention, LensModel


class Gated(Method):
    """A defence with a gate."""

    RECALIBRATED: ClassVar[bool] = False
    """Whether each language has a threshold of its own, and it acts only where the model refuses too little."""
    gate: Gate

    @classmethod
    def make(cls, fitting: Fitting) -> Defence:
        """Chosen for the languages that it acts in."""
        return fitting.choose(cls.candidates(fitting), served=fitting.needy if cls.RECALIBRATED else None)

    @abstractmethod
    def decided(self, x: Tensor) -> Tensor:
        """Which rows it acts on, bool [row], by what the gate read of each."""

    def flags(
        self,
        model: LensModel,
        instructions: Sequence[str],
        languages: Sequence[str],
        *,
        under: Sequence[Intervention] = (),
    ) -> list[bool | None]:
        """What `decided` says."""
        found = self.decided(self.gate.read(model, instructions, under))
        return self.gate.flags(found, languages, recalibrated=self.RECALIBRATED)


class GatedAddition(Gated):
    """What the additions share: a gate, a direction and its layer, a strength."""

    STRENGTHS: ClassVar[tuple[float, ...]] = (1.0,)
    """Multiples of the action's strength that are tried."""

    def __init__(self, card: Card, gate: Gate, vector: Tensor, layer: int, strength: float) -> None:
        """Put the parts together.

        Args:
            card: Where it holds.
            gate: What is read.
            vector: Direction [d_model], raw.
            layer: Where it is added.
            strength: Multiple of it.
        """
        self.card, self.gate, self.vector, self.layer, self.strength = card, gate, vector, layer, strength

    @classmethod
    def candidates(cls, fitting: Fitting) -> list[Defence]:
        """What is chosen among, weakest first."""
        gate = fitting.needing
        site = fitting.action_where_needed if cls.RECALIBRATED else fitting.action
        return [
            cls(
                fitting.card(
                    cls.method,
                    {
                        "gate_position": gate.position,
                        "gate_layer": gate.layer,
                        "position": site.position,
                        "layer": site.layer,
                        "strength": factor * site.strength,
                    },
                ),
                gate,
                site.vector,
                site.layer,
                factor * site.strength,
            )
            for factor in cls.STRENGTHS
        ]

    @abstractmethod
    def amounts(self, x: Tensor) -> Tensor:
        """Between 0 and 1 of the strength, for what the gate read of each row."""

    def intervene(
        self, model: LensModel, instructions: Sequence[str], *, under: Sequence[Intervention] = ()
    ) -> Intervention:
        """An addition with a row per prompt."""
        amounts = self.amounts(self.gate.read(model, instructions, under)) * self.strength
        return Addition(amounts.unsqueeze(1) * self.vector, layer=self.layer)

    def decided(self, x: Tensor) -> Tensor:
        """Open by more than half."""
        return self.amounts(x) > 0.5

    def tensors(self) -> dict[str, Tensor]:
        """Gate, direction, layer and strength."""
        facts = torch.tensor([self.layer, self.strength], dtype=torch.float64)
        return {**self.gate.tensors(), "vector": self.vector, "facts": facts}

    @classmethod
    def restore(cls, card: Card, tensors: Mapping[str, Tensor]) -> Defence:
        """From a file."""
        layer, strength = tensors["facts"].tolist()
        return cls(card, Gate.restore(tensors, card.languages), tensors["vector"], int(layer), strength)

    def null(self, seed: int) -> Defence:
        """The same gate, a random direction of the same norm."""
        card = replace(self.card, method=f"{self.card.method}:random-{seed}")
        return type(self)(card, self.gate, random_like(self.vector, seed), self.layer, self.strength)
