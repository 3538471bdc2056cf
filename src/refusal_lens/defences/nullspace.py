"""A map that does nothing to harmless activations: null-space-constrained steering, as AlphaSteer (Sheng et al. 2025).

    x' = x + x P W          at one layer, every position, every row: no gate
    P = U U^T               U: the directions in which harmless activations of the fit languages have least energy
    W = argmin sum |h P W - k r|^2 + a |W|^2      over harmful activations h; r the refusal direction

Harmless activations, which have little energy in the range of P, are hardly moved; harmful ones are pushed along r. What
is harmless in another language is not among the constraints: whether the null space carries over is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.defences.choosing import STRENGTHS, Fitting, Method
from refusal_lens.defences.edits import LinearMap
from refusal_lens.defences.face import Card, Defence
from refusal_lens.model import Intervention, LensModel

FREE = (0.5, 0.75)
"""Shares of the directions that count as free of harmless activations."""
RIDGE = 1e-2


class NullSpace(Method):
    """A linear map into the refusal direction, zero where harmless activations live."""

    method = "nullspace"
    summary = "adds a linear map of the activation that is zero where harmless activations live (AlphaSteer)"

    def __init__(self, card: Card, matrix: Tensor, layer: int) -> None:
        """Put the parts together.

        Args:
            card: Where it holds.
            matrix: P W, [d_model d_model], for activations as rows.
            layer: Where it acts.
        """
        self.card, self.matrix, self.layer = card, matrix, layer

    @classmethod
    def candidates(cls, fitting: Fitting) -> list[Defence]:
        """What is chosen among, weakest first."""
        found, gate = fitting.read, fitting.gate.gate
        pos = found.positions.index(gate.position)
        made: list[Defence] = []
        for strength in STRENGTHS:
            for free in FREE:
                for index, layer in enumerate(found.layers):
                    harmful = found.train["harmful"][:, pos, index]
                    calm = found.train["harmless"][:, :, index].flatten(0, 1)
                    aim = strength * found.difference(pos, index)
                    settings = {"position": gate.position, "layer": layer, "strength": strength, "free": free}
                    card = fitting.card(cls.method, dict(settings))
                    made.append(cls(card, constrained_map(harmful, calm, aim, free=free), layer))
        return made

    def intervene(
        self, model: LensModel, instructions: Sequence[str], *, under: Sequence[Intervention] = ()
    ) -> Intervention:
        """The map, which serves every row; nothing is read first."""
        del model, instructions, under
        return LinearMap(layer=self.layer, matrix=self.matrix)

    def tensors(self) -> dict[str, Tensor]:
        """Matrix and layer."""
        return {"matrix": self.matrix, "facts": torch.tensor([self.layer], dtype=torch.int64)}

    @classmethod
    def restore(cls, card: Card, tensors: Mapping[str, Tensor]) -> Defence:
        """From a file."""
        return cls(card, tensors["matrix"], int(tensors["facts"][0]))

    def null(self, seed: int) -> Defence:
        """A map of the same singular values from the same space into random directions."""
        drawn = torch.randn(self.matrix.shape, generator=torch.Generator().manual_seed(seed))
        turn = torch.linalg.qr(drawn).Q
        card = replace(self.card, method=f"{self.card.method}:random-{seed}")
        return type(self)(card, self.matrix @ turn, self.layer)


def constrained_map(
    harmful: Float[Tensor, "n d_model"],
    harmless: Float[Tensor, "m d_model"],
    aim: Float[Tensor, " d_model"],
    *,
    free: float,
) -> Float[Tensor, "d_model d_model"]:
    """P W of the formula.

    Args:
        harmful: Activations that are to be pushed.
        harmless: Activations that are to be left alone.
        aim: Where harmful activations are pushed, k r.
        free: Share of the directions, those of least harmless energy, that P keeps.

    Returns:
        The matrix, float32.
    """
    calm, h = harmless.double(), harmful.double()
    vectors = torch.linalg.eigh(calm.T @ calm / len(calm)).eigenvectors  # ascending energy
    basis = vectors[:, : max(1, int(free * vectors.shape[1]))]
    inside = h @ basis
    scale = inside.pow(2).mean() * len(inside)
    gram = inside.T @ inside + RIDGE * scale * torch.eye(inside.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, inside.T @ aim.double().expand(len(h), -1))
    return (basis @ weights).float()
