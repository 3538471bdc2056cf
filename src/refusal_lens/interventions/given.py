"""What an intervention is made from: directions with what is known of them, one for a block of rows each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Given(Protocol):
    """A direction, e.g. `directions.Direction`."""

    @property
    def source(self) -> str:
        """Its name."""
        ...

    @property
    def vector(self) -> Tensor:
        """[d_model], raw: its length is the difference of the class means."""
        ...

    @property
    def layer(self) -> int:
        """Layer it was read at."""
        ...

    @property
    def harmless_projection(self) -> float | None:
        """Mean of harmless prompts along the unit direction, where known; of harmful ones it is this plus the length."""
        ...

    @property
    def harmless_projections(self) -> Sequence[float] | None:
        """The same of the residual stream entering every block, where known."""
        ...


def chosen_rows(directions: Float[Tensor, "rows d_model"], indices: Sequence[int]) -> Float[Tensor, "chosen d_model"]:
    """The directions of some prompts, in this order; ValueError where there are more prompts than directions."""
    if indices and max(indices) >= len(directions):
        raise ValueError(
            f"{len(directions)} directions, one a prompt, but more prompts: prompt {max(indices)} has none"
        )
    return directions[list(indices)]


def per_row(vectors: Sequence[Tensor], repeats: int) -> Float[Tensor, "*rows d_model"]:
    """One vector for all rows where there is only one, else each for its `repeats` rows, one block after the other."""
    return vectors[0] if len(vectors) == 1 else torch.stack(list(vectors)).repeat_interleave(repeats, dim=0)
