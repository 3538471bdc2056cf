"""Ablation: the direction never reaches any reader of the residual stream.

x' = x - (x.r - c) r with r the unit direction and c the reference: 0, or the projection of the harmless mean (affine
concept editing, Marshall et al. 2024, with a = 0). The harmless mean differs from layer to layer, and so does c: every
reader of layer L sees that of the residual stream entering block L, the final norm that of the last block.
The exact variant sets the projection of what enters the first block (with a reference of each layer's own: every block) to c and
removes the direction from everything that blocks add to the stream (after post-norms), so every block's attention and MLP
and the final norm see exactly c.
In 16-bit formats it also sets the projection of the inputs of later blocks and of the final norm: the sums in between are
rounded, and positions of very large norm would gather the direction again (docs/architectures.md has the numbers).
It holds beside other interventions, whatever their order: nothing brings an ablated direction back.
The published variant (Arditi et al. 2024) acts on block inputs and on attention and MLP outputs before post-norms; it
leaves 7-10 % of the direction in post-norm models and exists for comparison only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.core.interventions import AblationOptions, AffineOptions, Options
from refusal_lens.errors import DataError
from refusal_lens.interventions.given import Given, chosen_rows, per_row
from refusal_lens.model import Edit, Intervention, Site, in_float64, set_projection, unit
from refusal_lens.model.edit import Placement
from refusal_lens.model.projection import EXACT, removing

Variant: TypeAlias = Literal["exact", "published"]

_SITES: dict[Variant, tuple[tuple[Site, ...], tuple[Site, ...]]] = {
    "exact": EXACT,
    "published": (("block_input",), ("attention_output", "mlp_output")),
}
"""Where each variant edits the whole stream, and where it edits what is added to it."""


@dataclass(frozen=True, eq=False)
class Ablation:
    """Removes a direction from the residual stream, or fixes its projection.

    Attributes:
        direction: [d_model], any length; zero is a no-op. Or [rows, d_model]: one direction per row of the batch.
        reference: Projection every reader sees instead of zero (affine ablation), in units of the residual stream:
            a number, one per row, or [rows or 1, layers]: one per layer. Rows of their own need directions of their own.
        variant: "exact", or "published" for comparison.
    """

    direction: Float[Tensor, "*rows d_model"]
    reference: Tensor | float | None = None
    variant: Variant = "exact"

    def __post_init__(self) -> None:
        """ValueError where the reference has other rows than the direction: all rows would get the first one's."""
        rows = 1 if self.direction.ndim == 1 else len(self.direction)
        given = self.reference.shape[0] if isinstance(self.reference, Tensor) and self.reference.ndim > 0 else 1
        if given not in (1, rows):
            raise ValueError(f"a reference of {given} rows needs {given} directions, a row each, not {rows}")

    @cached_property
    def unit(self) -> Float[Tensor, "*rows d_model"]:
        """The unit direction in float32; zeros where the direction is zero."""
        return unit(self.direction)

    @cached_property
    def target(self) -> Tensor | None:
        """The reference as a float32 tensor, None for zero."""
        return (
            None
            if self.reference is None
            else torch.as_tensor(self.reference, dtype=torch.float32, device=self.direction.device)
        )

    @cached_property
    def _placements(self) -> dict[int, Placement]:
        """One edit for all places of a reference, so that its tensors are copied to a device once."""
        return {}

    def target_at(self, layer: int) -> Tensor | None:
        """The reference of a layer's readers: a number, one per row, or None for zero."""
        if self.target is None or self.target.ndim < 2:
            return self.target
        column = self.target[:, min(layer, self.target.shape[1] - 1)]
        return column if self.direction.ndim == 2 and len(column) > 1 else column[0]

    def __call__(self, x: Float[Tensor, "*batch d_model"], layer: int = 0) -> Float[Tensor, "*batch d_model"]:
        """Activations with the projection set to the reference (of a layer); x itself is left alone."""
        target = self.target_at(layer)
        return set_projection(x, self.unit.to(x.device), None if target is None else target.to(x.device))

    def at(self, site: Site, layer: int, /) -> Edit | None:
        """Full edit where the stream is read whole, plain removal where something is added to it."""
        by_layer = self.target is not None and self.target.ndim == 2
        key = layer if by_layer else 0
        if key not in self._placements:
            whole, added = _SITES[self.variant]
            read: tuple[Site, ...] = (*whole, "block_input") if by_layer else whole
            self._placements[key] = removing(self.unit, self.target_at(layer), sites=(read, added))
        return self._placements[key](site, layer)

    @property
    def holds(self) -> bool:
        """Whether every reader sees exactly the reference: not under the published hooks."""
        return self.variant == "exact"

    def after(self, earlier: Sequence[Intervention], /) -> Ablation:
        """An ablation that does not bring back what earlier ones removed: its direction made orthogonal to theirs."""
        others = [item for item in earlier if isinstance(item, Ablation)]
        if not others:
            return self
        direction = in_float64(self.unit)
        target = _by_layer(self.target, direction)
        for other in others:
            basis = in_float64(other.unit).to(direction.device)
            overlap = (direction * basis).sum(-1)
            direction = direction - overlap.unsqueeze(-1) * basis
            target = target - overlap.reshape(-1, 1) * _by_layer(other.target, direction)
        length = direction.norm(dim=-1)
        known = length < 1e-6
        direction = torch.where(known.unsqueeze(-1), 0.0, direction)
        reference = None
        if self.target is not None or any(other.target is not None for other in others):
            reference = torch.where(known.reshape(-1, 1), 0.0, target / length.clamp_min(1e-6).reshape(-1, 1)).float()
            if reference.shape[1] == 1:
                reference = reference[:, 0] if len(reference) > 1 else reference[0, 0]
        return replace(self, direction=direction.float().to(self.direction.device), reference=reference)

    def share(self, read: Float[Tensor, "row d_model"], layer: int, /) -> Float[Tensor, " row"]:
        """How far what a reader reads is from the reference along the direction, as a share of its norm; NaN for zero."""
        x, r = read.float(), self.unit.to(read.device)
        target = self.target_at(layer)
        off = (x * r).sum(-1) - (0.0 if target is None else target.to(read.device))
        return torch.where((r != 0).any(-1), off.abs() / x.norm(dim=-1).clamp_min(1e-12), torch.nan)

    def rows(self, indices: Sequence[int], /) -> Ablation:
        """The ablation of some rows of the batch, in this order."""
        if self.direction.ndim == 1:
            return self
        direction, reference = chosen_rows(self.direction, indices), self.reference
        if isinstance(reference, Tensor) and reference.ndim > 0 and len(reference) == len(self.direction):
            reference = reference[list(indices)]
        return replace(self, direction=direction, reference=reference)

    def fold_direction(self) -> Tensor | None:
        """The direction, when weights can carry the whole ablation: exact, towards zero, one for all rows."""
        return self.unit if self.variant == "exact" and self.reference is None and self.direction.ndim == 1 else None


def made(directions: Sequence[Given], repeats: int, options: AblationOptions) -> list[Ablation]:
    """The ablation of directions, each in its block of rows; affine ones each to the harmless mean along itself."""
    reference = None
    if options.affine:
        references = [torch.as_tensor(reference_of(direction)).reshape(1, -1) for direction in directions]
        layers = max(one.shape[1] for one in references)
        reference = torch.cat([one.expand(1, layers) for one in references]).repeat_interleave(repeats, dim=0)
        if len(directions) == 1:
            reference = reference[:1]
        if layers == 1:
            reference = reference[:, 0] if len(directions) > 1 else reference[0, 0]
    vectors = per_row([direction.vector for direction in directions], repeats)
    return [Ablation(vectors, reference=reference, variant=options.variant)]


def made_affine(directions: Sequence[Given], repeats: int, options: AffineOptions) -> list[Ablation]:
    """The affine ablation, beside one to zero in the same run."""
    return made(directions, repeats, AblationOptions(options.variant, affine=True))


def made_published(directions: Sequence[Given], repeats: int, options: Options) -> list[Ablation]:  # noqa: ARG001
    """The published hooks, beside exact ones in the same run."""
    return made(directions, repeats, AblationOptions("published"))


def reference_of(direction: Given) -> Float[Tensor, "1 layer"] | float:
    """Where an affine ablation puts a direction's projection: never silently zero.

    Args:
        direction: Any direction.

    Returns:
        The harmless mean's projection on it, of every layer; where only that of its own layer is known, e.g. of an imported
        direction, that one for all, which a model may not stand (docs/decisions/021-affine-by-layer.md).

    Raises:
        DataError: The direction knows neither.
    """
    if direction.harmless_projections is not None:
        return torch.tensor([list(direction.harmless_projections)])
    if direction.harmless_projection is None:
        raise DataError(
            f"direction {direction.source!r}: its harmless mean is not known, so it cannot be ablated to it; ablate to zero,"
            " or extract it again"
        )
    return direction.harmless_projection


def _by_layer(target: Tensor | None, like: Tensor) -> Float[Tensor, "row layer"]:
    """A reference as [rows or 1, layers or 1], in float64."""
    if target is None:
        return torch.zeros(1, 1, dtype=torch.float64, device=like.device)
    exact = in_float64(target).to(like.device)
    return exact if exact.ndim == 2 else exact.reshape(-1, 1)
