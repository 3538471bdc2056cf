"""Scaling by the projection gap: a language whose classes lie closer together along the refusal direction is stretched.

    x' = x + (s_l k - 1) (p - m_l) u        p = x.u of the prompt, u the unit direction, at one layer, every position
    s_l = gap of the fit languages / gap of language l, between 1/4 and 4

m_l is the threshold and gap_l the distance of the two groups into which the language's unlabelled prompts fall. There is
no gate: harmful prompts are pushed one way and harmless ones the other. Source: the projection gap of weakly aligned
languages in Wang et al. 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from refusal_lens.defences.choosing import STRENGTHS, Fitting, Method, random_like
from refusal_lens.defences.face import Card, Defence
from refusal_lens.defences.gate import FEWEST, ONE_BELL, Gate, between, cut_in_two
from refusal_lens.defences.reading import Read, read
from refusal_lens.interventions import Addition
from refusal_lens.model import Intervention, LensModel

MOST = 4.0


class Scaling(Method):
    """Stretches each language's projections to the gap of the fit languages."""

    method = "scaling"
    summary = "stretches a language's projections on the direction to the gap of the fit languages"

    def __init__(self, card: Card, gate: Gate, unit: Tensor, scales: Tensor, facts: tuple[int, int, float]) -> None:
        """Put the parts together.

        Args:
            card: Where it holds.
            gate: Tells a prompt's language.
            unit: Unit direction [d_model] that is read.
            scales: s_l and m_l, [2 lang].
            facts: Position and layer of reading and acting, and k.
        """
        self.card, self.gate, self.unit, self.scales = card, gate, unit, scales
        self.position, self.layer, self.strength = facts
        self.push = unit

    @classmethod
    def candidates(cls, fitting: Fitting) -> list[Defence]:
        """What is chosen among, weakest first."""
        found, gate = fitting.read, fitting.gate.gate
        pos = found.positions.index(gate.position)
        made: list[Defence] = []
        for strength in STRENGTHS:
            for index, layer in enumerate(found.layers):
                vector = found.difference(pos, index)
                unit = vector / vector.norm()
                settings = {"position": gate.position, "layer": layer, "strength": strength}
                card = fitting.card(cls.method, dict(settings))
                scales = _scales(found, pos, index, unit, gate.languages)
                made.append(cls(card, gate, unit, scales, (gate.position, layer, strength)))
        return made

    def intervene(
        self, model: LensModel, instructions: Sequence[str], *, under: Sequence[Intervention] = ()
    ) -> Intervention:
        """An addition with a row per prompt."""
        layers = [self.gate.layer, self.layer]
        both = read(model, instructions, layers, positions=[self.position], under=under)[:, 0]
        language = self.gate.language_of(both[:, 0])
        off = both[:, 1] @ self.unit - self.scales[1][language]
        amounts = (self.scales[0][language] * self.strength - 1.0) * off
        return Addition(amounts.unsqueeze(1) * self.push, layer=self.layer)

    def tensors(self) -> dict[str, Tensor]:
        """Gate, direction, scales and place."""
        facts = torch.tensor([self.position, self.layer, self.strength], dtype=torch.float64)
        return {**self.gate.tensors(), "unit": self.unit, "scales": self.scales, "facts": facts}

    @classmethod
    def restore(cls, card: Card, tensors: Mapping[str, Tensor]) -> Defence:
        """From a file."""
        position, layer, strength = tensors["facts"].tolist()
        gate = Gate.restore(tensors, card.languages)
        return cls(card, gate, tensors["unit"], tensors["scales"], (int(position), int(layer), strength))

    def null(self, seed: int) -> Defence:
        """The same amounts along a random direction."""
        facts = (self.position, self.layer, self.strength)
        card = replace(self.card, method=f"{self.card.method}:random-{seed}")
        other = type(self)(card, self.gate, self.unit, self.scales, facts)
        other.push = random_like(self.unit, seed)
        return other


def _scales(found: Read, pos: int, layer: int, unit: Tensor, languages: Sequence[str]) -> Tensor:
    """s_l and m_l of each language; a language without two groups keeps the middle of the fit languages, unscaled."""
    harmful, harmless = ((found.train[harm][:, pos, layer] @ unit).numpy() for harm in ("harmful", "harmless"))
    own = between(harmless, harmful).threshold
    gap = float(harmful.mean() - harmless.mean())
    scales, middles = [1.0] * len(languages), [own] * len(languages)
    for index, language in enumerate(languages):
        values = (found.unlabelled[language][:, pos, layer] @ unit).numpy()
        cut = cut_in_two(values) if len(values) >= FEWEST else None
        if cut is not None and cut.explained >= ONE_BELL:
            above = values > cut.threshold
            distance = float(values[above].mean() - values[~above].mean())
            scales[index] = min(max(gap / distance, 1 / MOST), MOST)
            middles[index] = cut.threshold
    return torch.tensor([scales, middles])
