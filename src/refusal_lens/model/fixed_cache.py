"""Keys and values in storage that stays where it is, so that a decoding step can be repeated without being launched anew.

transformers' static layers hold the whole length in view, count columns in each layer, and keep sliding windows with numbers
of Python that a repeated step would repeat too. Here every layer of attention is one stretch of columns, full length or
sliding: which of them count, the masks say, which transformers makes from the column that all layers share.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer, StaticLayer

KINDS = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers whose keys and values of a row are those of its tokens and nothing else: what a stretch of columns can hold."""


class FixedLayer(StaticLayer):
    """Keys and values [row, head, column, width] of one layer: `keys` and `values` are the rows and columns in view."""

    def __init__(self, column: Tensor) -> None:
        """Share the column [1] that the next token is written to."""
        super().__init__(max_cache_len=0)
        self._column = column
        self._whole: tuple[Tensor, Tensor] | None = None

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: object,  # noqa: ARG002 (transformers' signature)
        **kwargs: object,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Write one token's keys and values [row, head, 1, width] and return all in view."""
        assert self.keys is not None and self.values is not None, "a layer is filled before it is continued"
        self.keys.index_copy_(2, self._column, key_states)
        self.values.index_copy_(2, self._column, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002
        """Columns in view, from the first on."""
        assert self.keys is not None
        return self.keys.shape[2], 0

    def get_seq_length(self) -> Tensor:  # type: ignore[override]
        """The column as a tensor: a number would be repeated with the step."""
        return self._column[0]

    def fill(self, first: int, end: int, keys: Tensor, values: Tensor, *, shape: tuple[int, int]) -> None:
        """Put keys and values of some tokens in place.

        Args:
            first: First of the rows.
            end: Column after the last token.
            keys: [row, head, token, width].
            values: [row, head, token, width].
            shape: Rows and columns of the storage, made where there is none.
        """
        if self._whole is None:
            made = [part.new_zeros(shape[0], part.shape[1], shape[1], part.shape[3]) for part in (keys, values)]
            self._whole = made[0], made[1]
            self.is_initialized = True
        for whole, part in zip(self._whole, (keys, values), strict=True):
            whole[first : first + part.shape[0], :, end - part.shape[2] : end] = part

    def begin(self, first: int, starts: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put the same keys and values [1, head, token, width] into several rows, each from a column of its own on."""
        assert self._whole is not None
        rows = torch.arange(first, first + starts.shape[0], device=starts.device).unsqueeze(1)
        columns = starts.unsqueeze(1) + torch.arange(keys.shape[2], device=starts.device)
        for whole, part in zip(self._whole, (keys, values), strict=True):
            whole[rows, :, columns] = part.transpose(1, 2)

    def view(self, rows: int, columns: int) -> None:
        """Show the first rows and columns, in larger storage where there are more columns than that holds."""
        if self._whole is None:
            return
        have = self._whole[0].shape[2]
        if columns > have:
            larger = [part.new_zeros(rows, part.shape[1], columns, part.shape[3]) for part in self._whole]
            for new, old in zip(larger, self._whole, strict=True):
                new[:, :, :have] = old[:rows]
            self._whole = larger[0], larger[1]
        self.keys, self.values = (part[:rows, :, :columns] for part in self._whole)

    def keep(self, rows: Tensor) -> None:
        """Move some rows of those in view to the front."""
        if self._whole is None:
            return
        for part in (self.keys, self.values):
            assert part is not None
            part[: rows.shape[0]] = part.index_select(0, rows)

    def held_bytes(self) -> int:
        """Memory of the storage."""
        return sum(part.nbytes for part in self._whole or ())

    def clear(self) -> None:
        """Forget all numbers: what is masked is multiplied by zero, and zero times NaN is NaN."""
        for part in self._whole or ():
            part.zero_()


def fixed_layers(config: PreTrainedConfig, column: Tensor) -> list[FixedLayer] | None:
    """Layers for a model's cache.

    Args:
        config: The model's configuration.
        column: [1], the column that the next token is written to.

    Returns:
        As many as transformers' own cache has, or None where that keeps something else than keys and values.
    """
    own = DynamicCache(config=config).layers
    if not own or any(type(layer) not in KINDS for layer in own):
        return None
    return [FixedLayer(column) for _ in own]


def fixed_cache(layers: list[FixedLayer]) -> Cache:
    """A cache of these layers, as transformers' models take it."""
    return Cache(layers=list(layers))


def smallest_window(config: PreTrainedConfig) -> int | None:
    """The shortest sliding window (or chunk) of a model's layers, in tokens; None without one."""
    windows = [
        layer.sliding_window
        for layer in DynamicCache(config=config).layers
        if isinstance(layer, DynamicSlidingWindowLayer)
    ]
    return min(windows, default=None)
