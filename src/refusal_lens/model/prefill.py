"""Read the prompts of a batch into a fixed cache: in passes of like length, their common beginning once.

1. Rows come longest first; a new pass begins where padding would cost more than a pass does.
2. The tokens that all prompts begin with (the template, a system prompt) are read once, unless a row has a direction of its
   own there. The rows' other tokens follow behind padding in the middle, which only layers without a sliding window that
   ends there leave alone.
3. Keys and values are put into the cache with their last token in one column, as decoding wants them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from refusal_lens.model.answers import Job
from refusal_lens.model.batches import passes
from refusal_lens.model.cache import holding
from refusal_lens.model.fixed_cache import FixedLayer, smallest_window

WORTH = 64
"""Tokens that a common beginning must save."""


@dataclass(frozen=True)
class Beginning:
    """Tokens that all prompts of a batch begin with, and their keys and values [1, head, token, width] by layer."""

    tokens: int
    layers: list[tuple[Tensor, Tensor] | None]


def read_prompts(
    job: Job, rows: Sequence[int], layers: Sequence[FixedLayer], *, shape: tuple[int, int], share: bool, least: int
) -> Tensor:
    """Fill a cache with the prompts of a batch, and what is written of their answers.

    Args:
        job: The answers; whoever watches is shown every row.
        rows: The batch, longest first.
        layers: The cache.
        shape: Rows and columns of its storage.
        share: Whether a common beginning may be read once; it is proved elsewhere that this model can.
        least: Tokens that it must save.

    Returns:
        Logits [row, vocab] of the next token.
    """
    ids = [job.so_far(row) for row in rows]
    width = len(ids[0])
    found: list[Tensor] = []
    with ExitStack() as hooks:
        beginning = _beginning(job, ids, hooks, least) if share and _may_share(job, rows, width) else None
        skip = 0 if beginning is None else beginning.tokens
        for group in passes([len(row) - skip for row in ids], job.model.device):
            job.hook([rows[index] for index in group], hooks)
            cache = DynamicCache(config=job.model.hf.config)
            if beginning is not None:
                _begin_with(cache, beginning, len(group))
            with job.shown([rows[index] for index in group]):
                found.append(_pass(job, [ids[index][skip:] for index in group], cache, skip))
            _move(cache, layers, [len(ids[index]) for index in group], group[0], width, skip, shape)
    return torch.cat(found)


def _may_share(job: Job, rows: Sequence[int], width: int) -> bool:
    window = smallest_window(job.model.hf.config)
    return (window is None or width < window) and all(item.rows(rows) is item for item in job.hooked)


def _beginning(job: Job, ids: Sequence[Sequence[int]], hooks: ExitStack, least: int) -> Beginning | None:
    first, last = min(map(list, ids)), max(map(list, ids))  # in this order, all others lie between these two
    same = next((n for n, (one, two) in enumerate(zip(first, last, strict=False)) if one != two), len(first))
    tokens = min(same, min(map(len, ids)) - 1)
    if tokens * (len(ids) - 1) < max(1, least):
        return None
    job.hook([0], hooks)
    cache = DynamicCache(config=job.model.hf.config)
    _pass(job, [list(ids[0][:tokens])], cache, 0)
    return Beginning(tokens, [_keys_of(layer) for layer in cache.layers])


def _pass(job: Job, ids: Sequence[Sequence[int]], cache: DynamicCache, skip: int) -> Tensor:
    """Logits of the token after each row; `skip` tokens stand in the cache already."""
    batch = job.model.batch(ids)
    mask = batch.attention_mask
    if mask is not None and skip:
        mask = torch.cat([mask.new_ones(mask.shape[0], skip), mask], dim=1)
    return job.model.hf(
        input_ids=batch.input_ids,
        attention_mask=mask,
        position_ids=batch.position_ids + skip,
        use_cache=True,
        logits_to_keep=1,
        **holding(job.model.hf, cache),
    ).logits[:, -1]


def _begin_with(cache: DynamicCache, beginning: Beginning, rows: int) -> None:
    for index, pair in enumerate(beginning.layers):
        if pair is not None:
            keys, values = (part.expand(rows, -1, -1, -1) for part in pair)
            cache.update(keys, values, index)


def _move(
    cache: DynamicCache,
    layers: Sequence[FixedLayer],
    lengths: Sequence[int],
    first: int,
    end: int,
    skip: int,
    shape: tuple[int, int],
) -> None:
    """Put a pass's keys and values where decoding reads them: what was in front of padding goes right before each row."""
    for layer, place in zip(cache.layers, layers, strict=True):
        pair = _keys_of(layer)
        if pair is None:
            continue
        keys, values = pair
        place.fill(first, end, keys[:, :, skip:], values[:, :, skip:], shape=shape)
        if skip:
            starts = torch.tensor([end - length for length in lengths], device=keys.device)
            place.begin(first, starts, keys[:1, :, :skip], values[:1, :, :skip])


def _keys_of(layer: object) -> tuple[Tensor, Tensor] | None:
    assert isinstance(layer, DynamicLayer), "only such layers have a fixed counterpart"
    if not layer.is_initialized or layer.keys is None or layer.values is None:
        return None
    return layer.keys, layer.values
