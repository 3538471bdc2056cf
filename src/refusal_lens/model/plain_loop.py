"""The plain loop: the model is called anew for every token, with a cache that grows.

It serves every model that transformers can cache, and is what the repeated step of `decoding` is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext

import torch

from refusal_lens.model.answers import KEEP, Job
from refusal_lens.model.cache import holding, keep_rows, new_cache


@torch.no_grad()
def write(job: Job, rows: Sequence[int]) -> None:
    """Write until every row has ended, or the batch has no column left in the context.

    Args:
        job: Takes the tokens.
        rows: One batch.
    """
    with ExitStack() as hooks:
        _write(job, rows, hooks)


def _write(job: Job, rows: Sequence[int], hooks: ExitStack) -> None:
    model = job.model
    batch = model.batch([job.so_far(row) for row in rows])
    cache = new_cache(model.hf.config)
    live = list(rows)
    ids, mask, positions = batch.input_ids, batch.attention_mask, batch.position_ids
    job.hook(live, hooks)
    for step in range(job.steps(ids.shape[1])):
        with job.shown(live) if step == 0 else nullcontext():
            logits = model.hf(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                use_cache=True,
                logits_to_keep=1,
                **holding(model.hf, cache),
            ).logits[:, -1]
        chosen = logits.argmax(-1)
        for row, token in zip(live, chosen.tolist(), strict=True):
            job.take(row, token)
        job.tell()
        writing = [index for index, row in enumerate(live) if row not in job.answers]
        if not writing:
            return
        ids, positions = chosen.unsqueeze(1), positions[:, -1:] + 1
        mask = None if mask is None else torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)
        if len(writing) < KEEP * len(live):
            kept = torch.tensor(writing, device=model.device)
            keep_rows(cache, kept)
            ids, positions = ids[kept], positions[kept]
            mask = None if mask is None else mask[kept]
            live = [live[index] for index in writing]
            job.hook(live, hooks)
