"""Steering of the residual stream at one layer, as defences use it: x' = x + delta(x).

    affine   delta = open (target - x.u) u      sets the projection on u, in the rows that are open
    map      delta = x M                        the same linear map in every row

Beside an exact ablation only what lies outside the ablated directions is added: an attacker who holds a direction at zero
takes it from the defence too. Additions of a direction are `interventions.Addition` with a row per prompt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from refusal_lens.interventions import Ablation
from refusal_lens.model import Edit, Intervention, Site


@dataclass(frozen=True, eq=False, kw_only=True)
class Steering(ABC):
    """Adds something that depends on the activation, to what enters one block.

    Attributes:
        layer: The block.
        kept_out: Unit directions, [d_model] or one per row [rows d_model], orthogonal, along which nothing is added.
    """

    layer: int
    kept_out: tuple[Tensor, ...] = ()

    @abstractmethod
    def delta(self, rows: Float[Tensor, "row seq d_model"]) -> Float[Tensor, "row seq d_model"]:
        """What is added, in float32."""

    def __call__(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Activations with the steering added; x itself is left alone."""
        rows = x.float().reshape(self._count(x), -1, x.shape[-1])
        added = self.delta(rows)
        for basis in self.kept_out:
            along = basis.to(added.device, added.dtype).unsqueeze(-2)
            added = added - (added * along).sum(-1, keepdim=True) * along
        return (rows + added).reshape(x.shape).to(x.dtype)

    def _count(self, x: Tensor) -> int:
        of_rows = [len(basis) for basis in self.kept_out if basis.ndim == 2]
        return x.shape[0] if x.ndim > 2 else next(iter(of_rows), 1)

    def at(self, site: Site, layer: int, /) -> Edit | None:
        """Acts on the input of its own layer only."""
        return self if site == "block_input" and layer == self.layer else None

    @property
    def holds(self) -> bool:
        """It guarantees nothing."""
        return False

    def after(self, earlier: Sequence[Intervention], /) -> Steering:
        """The steering without what exact ablations take away; their directions are orthogonal to each other here."""
        bases = tuple(item.unit for item in earlier if isinstance(item, Ablation) and item.holds)
        return replace(self, kept_out=bases) if bases else self

    def rows(self, indices: Sequence[int], /) -> Steering:
        """The same for some rows of the batch, in this order."""
        chosen = list(indices)
        return replace(self, kept_out=tuple(one[chosen] if one.ndim == 2 else one for one in self.kept_out))

    def fold_direction(self) -> Tensor | None:
        """None: steering is no removal of a direction."""
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class SetProjection(Steering):
    """Sets the projection on a unit direction to a target, in open rows.

    Attributes:
        unit: [d_model].
        target: In units of the residual stream.
        opened: One a row of the batch.
    """

    unit: Float[Tensor, " d_model"]
    target: float
    opened: Bool[Tensor, " row"]

    def delta(self, rows: Float[Tensor, "row seq d_model"]) -> Float[Tensor, "row seq d_model"]:
        """Open (target - x.u) u."""
        unit = self.unit.to(rows.device)
        missing = self.target - rows @ unit
        return (missing * self.opened.to(rows.device, rows.dtype)[:, None]).unsqueeze(-1) * unit

    def _count(self, x: Tensor) -> int:  # noqa: ARG002
        return len(self.opened)

    def rows(self, indices: Sequence[int], /) -> Steering:
        """The steering of some rows of the batch, in this order."""
        return replace(super().rows(indices), opened=self.opened[list(indices)])  # pyright: ignore[reportCallIssue]


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearMap(Steering):
    """Adds x M, the same in every row and at every position.

    Attributes:
        matrix: M, [d_model d_model], for activations as rows.
    """

    matrix: Float[Tensor, "d_model d_model"]

    def delta(self, rows: Float[Tensor, "row seq d_model"]) -> Float[Tensor, "row seq d_model"]:
        """X M."""
        return rows @ self.matrix.to(rows.device)
