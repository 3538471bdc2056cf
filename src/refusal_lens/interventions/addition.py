"""Addition: x' = x + coefficient * d to the residual stream entering one block, at every position.

The direction is used as it is, not normalised: its length is the difference of the class means.
Beside an exact ablation, whatever the order, only the part of d that is not ablated is added: x' = x + coefficient * P d.
An addition along the ablated direction itself is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.core.interventions import AdditionOptions
from refusal_lens.interventions.ablation import Ablation
from refusal_lens.interventions.given import Given, chosen_rows, per_row
from refusal_lens.model import Edit, Intervention, Site, in_float64, unit


@dataclass(frozen=True, eq=False)
class Addition:
    """Adds a direction at one layer.

    Attributes:
        direction: [d_model], raw; or [rows, d_model]: one direction per row of the batch.
        layer: Block whose input it is added to, from 0.
        coefficient: Factor, in units of the direction's length.
    """

    direction: Float[Tensor, "*rows d_model"]
    layer: int
    coefficient: float = 1.0

    def __call__(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Activations with the direction added; x itself is left alone."""
        return Adding(self.direction.detach().float() * self.coefficient)(x)

    def at(self, site: Site, layer: int, /) -> Edit | None:
        """Acts on the input of its own layer only."""
        acts = site == "block_input" and layer == self.layer
        return Adding(self.direction.detach().float() * self.coefficient) if acts else None

    @property
    def holds(self) -> bool:
        """It guarantees nothing."""
        return False

    def after(self, earlier: Sequence[Intervention], /) -> Addition:
        """The addition without what exact ablations take away; their directions are orthogonal to each other here."""
        before = left = in_float64(self.direction)
        bases = [in_float64(item.unit).to(left.device) for item in earlier if isinstance(item, Ablation) and item.holds]
        if not bases:
            return self
        for basis in bases:
            left = left - (left * basis).sum(-1, keepdim=True) * basis
        rounding = left.norm(dim=-1, keepdim=True) < 1e-6 * before.norm(dim=-1, keepdim=True)
        kept = torch.where(rounding, 0.0, left).float().to(self.direction.device)
        return replace(self, direction=kept)

    def share(self, read: Float[Tensor, "row d_model"], layer: int, /) -> Float[Tensor, " row"]:
        """How much of what a reader reads points along the addition, from -1 to 1; NaN before its layer and for zero."""
        x, v = read.float(), unit(self.direction * self.coefficient).to(read.device)
        acts = (v != 0).any(-1) & (layer >= self.layer)
        return torch.where(acts, (x * v).sum(-1) / x.norm(dim=-1).clamp_min(1e-12), torch.nan)

    def rows(self, indices: Sequence[int], /) -> Addition:
        """The addition to some rows of the batch, in this order."""
        return self if self.direction.ndim == 1 else replace(self, direction=chosen_rows(self.direction, indices))

    def fold_direction(self) -> Tensor | None:
        """None: an addition is no property of the weights alone."""
        return None


def made(directions: Sequence[Given], repeats: int, options: AdditionOptions) -> list[Addition]:
    """Additions of directions, one for each layer they were read at; rows of other layers' directions get zeros there."""
    return [
        Addition(
            per_row([d.vector if d.layer == layer else torch.zeros_like(d.vector) for d in directions], repeats),
            layer=layer,
            coefficient=options.coefficient,
        )
        for layer in sorted({direction.layer for direction in directions})
    ]


@dataclass(frozen=True, eq=False)
class Adding:
    """The edit: what is added, [d_model] or [rows, d_model] in float32, kept on the device where it is called."""

    step: Tensor
    _at: dict[torch.device, Tensor] = field(default_factory=dict[torch.device, Tensor], init=False, repr=False)

    def __call__(self, x: Tensor, /) -> Tensor:
        """Activations with the step added, in float32 and back."""
        if x.device not in self._at:
            self._at[x.device] = self.step.to(x.device)
        placed = self._at[x.device]
        if placed.ndim == 1:
            return (x.float() + placed).to(x.dtype)
        rows = x.float().reshape(placed.shape[0], -1, x.shape[-1])
        return (rows + placed.unsqueeze(1)).reshape(x.shape).to(x.dtype)

    def tensors(self) -> dict[str, Tensor]:
        """The step."""
        return {"step": self.step}

    def on(self, tensors: Mapping[str, Tensor], /) -> Adding:
        """The same with its numbers elsewhere."""
        return Adding(**tensors)
