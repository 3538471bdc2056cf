"""What the model room must know of an intervention: where it acts, and as which function.

An intervention answers `at(site, layer)` with a pure, out-of-place function on the residual stream, or None where it
does nothing. `hooking` places these functions; `folding` uses `fold_direction` where weights can take their place.
The interventions themselves live in the room of that name; this file does not know what they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, get_args, runtime_checkable

import torch
from torch import Tensor

Site: TypeAlias = Literal[
    "embedding", "block_input", "rounded", "attention_output", "mlp_output", "attention_write", "mlp_write"
]
"""A place in the residual stream.

- `embedding`: what enters the first block (token embeddings, scaled, with position embeddings added); layer 0 only.
- `block_input`: the residual stream entering a block. At layer 0 this is the same place, after `embedding`.
- `rounded`: in 16-bit formats only, the inputs of the blocks after the first and of the final norm, where the stream's
  own sums have been rounded and hold a little again of what was taken out of everything added to it.
- `attention_output`, `mlp_output`: what the attention and MLP modules return, before any norm that follows them.
- `attention_write`, `mlp_write`: what is added to the residual stream: the same tensors after that norm, where there is one.
"""

SITES: tuple[Site, ...] = get_args(Site)

Placement: TypeAlias = "Callable[[Site, int], Edit | None]"
"""For a place and a layer, the function applied there; None where nothing is done."""

FULL_PRECISION = frozenset({torch.float32, torch.float64})
"""Formats in which a sum of the residual stream loses nothing that matters."""

Edit: TypeAlias = Callable[[Tensor], Tensor]
"""Maps activations [batch, seq, d_model] (or flattened [batch * seq, d_model]) to new ones of the same shape and dtype."""


@runtime_checkable
class TensorEdit(Protocol):
    """An edit that is its class and its tensors: it can read the same numbers elsewhere (`held`)."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """As any edit."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What it reads, by name; the first axis of per-row tensors is the rows of the batch."""
        ...

    def on(self, tensors: Mapping[str, Tensor], /) -> TensorEdit:
        """The same edit reading these tensors, of the same names and shapes."""
        ...


@runtime_checkable
class Intervention(Protocol):
    """A change of the residual stream, described by where it acts."""

    def at(self, site: Site, layer: int, /) -> Edit | None:
        """Function applied at one place, None where this intervention does nothing."""
        ...

    @property
    def holds(self) -> bool:
        """Whether it guarantees what every reader of the stream sees: others then give way to it, whatever the order."""
        ...

    def after(self, earlier: Sequence[Intervention], /) -> Intervention:
        """What is left of this intervention beside others whose guarantees it must keep; often itself."""
        ...

    def rows(self, indices: Sequence[int], /) -> Intervention:
        """The same for some rows of the batch, in this order; itself where one direction serves every row."""
        ...

    def fold_direction(self) -> Tensor | None:
        """The direction [d_model] whose removal from all weights equals this intervention, None where there is none."""
        ...
