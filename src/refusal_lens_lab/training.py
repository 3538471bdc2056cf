"""The training loop: next-token loss on the answers, AdamW with a cosine schedule, by step counts and never by a clock.

Determinism: examples come from a seeded stream, batches from the stream in order, and nothing depends on time; one
thread gives the same weights on the same machine and library versions.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from refusal_lens_lab.network import END, PAD, token_id
from refusal_lens_lab.recipe import Schedule
from refusal_lens_lab.tasks import Example

logger = logging.getLogger(__name__)

POOL = 4
"""Batches drawn at once and sorted by length, so that a batch holds examples of similar length."""


def rate_factor(schedule: Schedule, step: int) -> float:
    """Learning rate at a step as a share of the peak: linear warm-up, then a cosine down to the floor.

    Args:
        schedule: The schedule.
        step: Step, from 0.

    Returns:
        A share in (0, 1].
    """
    if step < schedule.warm:
        return (step + 1) / schedule.warm
    progress = (step - schedule.warm) / max(1, schedule.steps - schedule.warm)
    return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train(
    network: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    draw: Callable[[], Example],
    schedule: Schedule,
    progress: Callable[[int, float], None] | None = None,
) -> float:
    """Trains in place.

    Args:
        network: The network; left in evaluation mode.
        tokenizer: Its tokenizer.
        draw: Gives the next example.
        schedule: Steps, batch and learning rate.
        progress: Called after each step with the step's number (from 1) and the loss in nats per answer token.

    Returns:
        Mean loss over the last 50 steps, nats per answer token.
    """
    if schedule.blocks is not None:
        network.model.layers[schedule.blocks :].requires_grad_(False)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay, fused=True
    )
    network.train()
    batches: list[list[tuple[list[int], int]]] = []
    losses: list[float] = []
    started, tokens = time.process_time(), 0
    for step in range(schedule.steps):
        if not batches:
            batches = _draw_batches(tokenizer, draw, schedule.batch)
        rows = batches.pop()
        loss = _loss(network, rows, pad=token_id(tokenizer, PAD))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate * rate_factor(schedule, step)
        optimiser.step()
        losses.append(float(loss.detach()))
        tokens += sum(len(ids) for ids, _ in rows)
        if progress is not None:
            progress(step + 1, losses[-1])
        if (step + 1) % 100 == 0:
            seconds = time.process_time() - started
            mean = sum(losses[-100:]) / 100
            logger.info(
                "step %d loss %.4f, %.0f CPU-s, %.0f tokens a second", step + 1, mean, seconds, tokens / seconds
            )
    network.requires_grad_(True).eval()
    return sum(losses[-50:]) / max(1, len(losses[-50:]))


def encode(tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> list[list[int]]:
    """Token ids of prompts in the chat template, ready for the answer.

    Args:
        tokenizer: Tokenizer with a chat template.
        prompts: What the user types.

    Returns:
        One list of ids per prompt.
    """
    rendered = [
        str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
        )
        for prompt in prompts
    ]
    return [list(ids) for ids in tokenizer(rendered, add_special_tokens=False)["input_ids"]]


def _draw_batches(
    tokenizer: PreTrainedTokenizerFast, draw: Callable[[], Example], batch: int
) -> list[list[tuple[list[int], int]]]:
    """`POOL` batches of (ids of prompt and answer, length of the prompt), similar lengths together, in a mixed order."""
    examples = [draw() for _ in range(POOL * batch)]
    prompts = encode(tokenizer, [example.prompt for example in examples])
    answers = tokenizer([example.answer for example in examples], add_special_tokens=False)["input_ids"]
    end = token_id(tokenizer, END)
    rows = [([*prompt, *answer, end], len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
    return [[rows[index] for index in order[start : start + batch]] for start in _mixed(POOL, batch)]


def _mixed(count: int, size: int) -> list[int]:
    """Starts of consecutive slices, long and short ones alternating."""
    starts = [index * size for index in range(count)]
    return [starts[index // 2] if index % 2 == 0 else starts[-1 - index // 2] for index in range(count)]


def _loss(network: Qwen3ForCausalLM, rows: list[tuple[list[int], int]], *, pad: int) -> torch.Tensor:
    """Mean cross-entropy over the answers' tokens; logits are computed there only."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), pad)
    asked = torch.zeros((len(rows), longest), dtype=torch.bool)
    for index, (row, start) in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        asked[index, start - 1 : len(row) - 1] = True
    hidden = network.model(input_ids=ids, use_cache=False).last_hidden_state
    targets = ids.roll(-1, dims=1)[asked]
    return functional.cross_entropy(network.lm_head(hidden[asked]), targets)
