"""What a monitor adds to a prefill: the quickest of many passes with and without it in turn, and its share of the arithmetic."""

from __future__ import annotations

from time import perf_counter, process_time

import torch

from refusal_lens.model import LensModel
from refusal_lens.monitor.monitor import Monitor
from refusal_lens.types import JsonValue


def measure(monitor: Monitor, model: LensModel, prompts: int, tokens: int, rounds: int) -> dict[str, JsonValue]:
    """Time prefills of random tokens.

    Args:
        monitor: The monitor.
        model: Its model.
        prompts: Prompts of one pass.
        tokens: Tokens of each, at most the model's context.
        rounds: Pairs of passes.

    Returns:
        The quickest pass of each kind in seconds (others are disturbed by what else the machine does), their ratio less one,
        and the share of multiply-adds.
    """
    tokens = min(tokens, model.context or tokens)
    draw = torch.Generator().manual_seed(0)
    rows = int(next(model.layout.embedding.parameters()).shape[0])
    ids = torch.randint(0, rows, (prompts, tokens), generator=draw).tolist()
    batch = model.batch(ids)

    clock = (
        process_time if model.device.type == "cpu" else perf_counter
    )  # others on the machine cost wall time, not ours

    def plain() -> float:
        start = clock()
        float(model.logits(batch)[0, 0])  # waits for an accelerator
        return clock() - start

    def watched() -> float:
        with monitor.stream(model, other_model=True):
            return plain()

    plain()
    watched()
    pairs = [(plain(), watched()) if turn % 2 else tuple(reversed((watched(), plain()))) for turn in range(rounds)]
    weights = sum(int(one.numel()) for one in model.hf.parameters())
    before, after = (min(times) for times in zip(*pairs, strict=True))
    return {
        "prefill_seconds": before,
        "with_monitor_seconds": after,
        "overhead": after / before - 1,
        "arithmetic_share": model.d_model / (weights * tokens),
        "prompts": prompts,
        "tokens": tokens,
        "rounds": rounds,
    }
