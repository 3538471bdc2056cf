"""A key-value cache that grows in place and lets finished rows go.

transformers' dynamic cache concatenates at every token, which copies the whole past each time: a third of the time of
decoding a small model in large batches. Here full-attention layers keep room for `ROOM` further tokens and write into
it; layers of any other kind (sliding windows, recurrent states) stay as transformers makes them.
"""

from __future__ import annotations

import functools
import inspect
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 32
"""Tokens of spare room allocated whenever a layer is full."""


class GrowingLayer(DynamicLayer):
    """Keys and values [batch, head, seq, width] as views of storage with spare room."""

    def __init__(self) -> None:
        super().__init__()
        self._storage: tuple[Tensor, Tensor] | None = None

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: object,  # noqa: ARG002 (transformers' signature)
        **kwargs: object,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Append the new tokens' keys and values.

        Args:
            key_states: [batch, head, new, width].
            value_states: [batch, head, new, width].
            *args: Not used.
            **kwargs: Not used.

        Returns:
            All keys and values so far.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._storage = None
        past = 0 if self._storage is None else cast("Tensor", self.keys).shape[-2]
        total = past + key_states.shape[-2]
        if self._storage is None or total > self._storage[0].shape[-2]:
            self._storage = (
                self._grown(self.keys, key_states, past, total),
                self._grown(self.values, value_states, past, total),
            )
        keys, values = self._storage
        keys[..., past:total, :] = key_states
        values[..., past:total, :] = value_states
        self.keys, self.values = keys[..., :total, :], values[..., :total, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows, with their spare room.

        Args:
            indices: Rows to keep.
        """
        if self._storage is None:
            return
        length = cast("Tensor", self.keys).shape[-2]
        keys, values = (part.index_select(0, indices.to(part.device)) for part in self._storage)
        self._storage = keys, values
        self.keys, self.values = keys[..., :length, :], values[..., :length, :]

    @staticmethod
    def _grown(old: Tensor | None, new: Tensor, past: int, total: int) -> Tensor:
        storage = new.new_zeros((*new.shape[:-2], total + ROOM, new.shape[-1]))
        if past and old is not None:
            storage[..., :past, :] = old
        return storage


def new_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for a model.

    Args:
        config: The model's configuration.

    Returns:
        transformers' cache with its plain layers replaced.
    """
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def holding(network: nn.Module, cache: Cache) -> dict[str, Cache]:
    """The argument that hands a model its cache: `cache` from transformers 5.24 on, before that `past_key_values`."""
    return {_argument(type(network)): cache}


@functools.cache
def _argument(kind: type[nn.Module]) -> str:
    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"


class _Rows(Protocol):
    """What layers of transformers' caches do with rows; recurrent ones lack the second."""

    def reorder_cache(self, beam_idx: Tensor) -> None: ...

    def batch_select_indices(self, indices: Tensor) -> None: ...


def keep_rows(cache: DynamicCache, rows: Tensor) -> None:
    """Drop all rows but some from every layer of a cache.

    Args:
        cache: The cache.
        rows: Indices of the rows to keep.
    """
    with torch.no_grad():
        for layer in cast("list[_Rows]", cache.layers):
            if hasattr(layer, "recurrent_states"):  # transformers selects rows of these for beams alone: the same
                layer.reorder_cache(rows)
            else:
                layer.batch_select_indices(rows)
