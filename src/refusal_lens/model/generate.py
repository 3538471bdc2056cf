"""Greedy answers to many prompts.

Prompts are sorted by length and run in large batches; a row leaves its batch when it emits an end token, and the
cache shrinks with it. Results come back in input order. Nothing is sampled: the same prompts give the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import DynamicCache

from refusal_lens.model.batches import BatchSize, chunks, run_shrinking
from refusal_lens.model.edit import Intervention
from refusal_lens.model.lens import LensModel

KEEP = 0.8
"""A batch is made smaller once fewer than this share of its rows is still writing."""


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer.

    Attributes:
        text: Decoded without special tokens. Untrusted.
        token_ids: Generated ids, the end token included.
        finished: False when cut at the token limit.
    """

    text: str
    token_ids: tuple[int, ...]
    finished: bool


def generate(
    model: LensModel,
    instructions: Sequence[str],
    *,
    max_new_tokens: int = 512,
    batch_size: BatchSize = "auto",
    interventions: Sequence[Intervention] = (),
    fold: Literal["auto", "never"] = "auto",
    stop_when: Callable[[int, str], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Generated]:
    """Answer every instruction greedily.

    Args:
        model: The model.
        instructions: User messages.
        max_new_tokens: Length limit of an answer, in tokens.
        batch_size: Prompts of one batch, or "auto".
        interventions: Active from the first prompt token to the last answer token.
        fold: "auto" folds a single ablation into the weights where that is exact; "never" always uses hooks.
        stop_when: Asked now and then with (row, text so far); True ends that row's answer early.
        progress: Told (answers finished, answers in all).

    Returns:
        Answers in input order.
    """
    token_ids = model.render(instructions)
    answers: dict[int, Generated] = {}
    groups = chunks([len(ids) + max_new_tokens for ids in token_ids], batch_size, tokens=32768, most=256)
    with ExitStack() as stack:
        stack.enter_context(model.edited(interventions))

        def compute(rows: list[int]) -> list[tuple[int, list[int], bool]]:
            return _decode(model, token_ids, rows, max_new_tokens, stop_when)

        for finished in run_shrinking(groups, compute):
            for row, ids, ended in finished:
                answers[row] = Generated(model.tokenizer.decode(ids, skip_special_tokens=True), tuple(ids), ended)
            if progress is not None:
                progress(len(answers), len(token_ids))
    return [answers[row] for row in range(len(token_ids))]


@torch.no_grad()
def _decode(
    model: LensModel,
    token_ids: Sequence[Sequence[int]],
    rows: Sequence[int],
    limit: int,
    stop_when: Callable[[int, str], bool] | None,
) -> list[tuple[int, list[int], bool]]:
    batch = model.batch(token_ids, rows)
    cache = DynamicCache(config=model.hf.config)
    end_ids = torch.tensor(model.end_ids, device=model.device)
    written: dict[int, list[int]] = {row: [] for row in rows}
    ended: set[int] = set()
    live = list(rows)
    mask, positions, ids = batch.attention_mask, batch.position_ids, batch.input_ids
    for step in range(limit):
        logits = model.hf(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        chosen = logits.argmax(-1)
        done = torch.isin(chosen, end_ids).tolist()
        for row, token, last in zip(live, chosen.tolist(), done, strict=True):
            if row not in ended:
                written[row].append(token)
                if last or (
                    stop_when is not None
                    and step % 16 == 15
                    and stop_when(row, model.tokenizer.decode(written[row], skip_special_tokens=True))
                ):
                    ended.add(row)
        writing = [index for index, row in enumerate(live) if row not in ended]
        if not writing:
            break
        positions = positions[:, -1:] + 1
        ids = chosen.unsqueeze(1)
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)
        if len(writing) < KEEP * len(live):
            kept = torch.tensor(writing, device=model.device)
            cache.batch_select_indices(kept)
            ids, positions = ids[kept], positions[kept]
            mask = None if mask is None else mask[kept]
            live = [live[index] for index in writing]
    return [(row, written[row], row in ended) for row in rows]
