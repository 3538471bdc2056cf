"""Unit directions and projections, the arithmetic every intervention shares.

A direction is normalised once in float64; projections run in float32 whatever the activations' dtype, out of place.
A zero direction has no unit: it becomes zeros, and projecting it out changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.model.edit import Edit, Placement, Site

EXACT: tuple[tuple[Site, ...], tuple[Site, ...]] = (("embedding", "rounded"), ("attention_write", "mlp_write"))
"""Sites that together keep every reader from seeing a direction: where the stream is read whole, where something is added."""


def in_float64(x: Tensor) -> Tensor:
    """A tensor in float64, on its own device, or on the CPU where that device has none (Apple's MPS).

    Args:
        x: Directions, activations or logits.

    Returns:
        The same numbers, detached.
    """
    return x.detach().to(device="cpu" if x.device.type == "mps" else x.device).to(torch.float64)


def unit(direction: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """Direction(s) of length one in float32, zeros where the direction is zero.

    Args:
        direction: One direction, or one per row.

    Returns:
        float32, normalised in float64.
    """
    exact = in_float64(direction)
    norm = exact.norm(dim=-1, keepdim=True)
    return (
        torch.where(norm > 0, exact / norm.clamp_min(torch.finfo(torch.float64).tiny), 0.0).float().to(direction.device)
    )


def set_projection(x: Tensor, direction: Tensor, target: Tensor | None) -> Tensor:
    """Activations whose projection on a unit direction is `target` (zero for None): x - (x.r - target) r.

    Args:
        x: [batch, seq, d_model], or flattened [batch * seq, d_model].
        direction: Unit [d_model], or [batch, d_model] for one per row; float32. A zero row changes nothing.
        target: Scalar or one number per row; None for zero.

    Returns:
        New tensor of x's shape and dtype.
    """
    wide = x.float()
    if direction.ndim == 1:
        along = wide @ direction
        if target is not None:
            along = along - target
        return torch.addcmul(wide, along.unsqueeze(-1), direction, value=-1).to(x.dtype)
    rows = wide.reshape(direction.shape[0], -1, wide.shape[-1])
    # The direction on the left: with it on the right, a CPU takes eight times as long for the same products.
    along = torch.bmm(direction.unsqueeze(1), rows.transpose(1, 2)).transpose(1, 2)
    if target is not None:
        along = along - target.reshape(-1, 1, 1)
    return torch.addcmul(rows, along, direction.unsqueeze(1), value=-1).reshape(x.shape).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Projecting:
    """`set_projection` as an edit that keeps its tensors on the device where it is called."""

    direction: Tensor
    target: Tensor | None = None
    _at: dict[torch.device, tuple[Tensor, Tensor | None]] = field(
        default_factory=dict[torch.device, tuple[Tensor, "Tensor | None"]], init=False, repr=False
    )

    def __call__(self, x: Tensor, /) -> Tensor:
        """Activations with the projection set."""
        if x.device not in self._at:
            target = None if self.target is None else self.target.to(x.device)
            self._at[x.device] = self.direction.to(x.device), target
        return set_projection(x, *self._at[x.device])

    def tensors(self) -> dict[str, Tensor]:
        """Direction and target."""
        return {"direction": self.direction} | ({} if self.target is None else {"target": self.target})

    def on(self, tensors: Mapping[str, Tensor], /) -> Projecting:
        """The same with its numbers elsewhere."""
        return Projecting(**tensors)


def removing(
    direction: Tensor, target: Tensor | None = None, *, sites: tuple[Collection[Site], Collection[Site]] = EXACT
) -> Placement:
    """The projection set to its target where the stream is read whole, and taken from all that is added to it.

    Args:
        direction: Unit [d_model], or [batch, d_model].
        target: As in `set_projection`.
        sites: Where the stream is read whole, and where something is added.

    Returns:
        What is done at each site, in every layer alike.
    """
    whole, added = sites
    setting = Projecting(direction, target)
    taking = setting if target is None else Projecting(direction)

    def at(site: Site, _layer: int, /) -> Edit | None:
        if site in whole:
            return setting
        return taking if site in added else None

    return at
