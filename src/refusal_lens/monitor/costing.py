"""What a monitor adds to a prefill: wall time of passes with and without it in turn, and the share of the arithmetic."""

from __future__ import annotations

from statistics import median
from time import perf_counter

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
        Medians in seconds, the median of the paired ratios less one, and the share of multiply-adds.
    """
    tokens = min(tokens, model.context or tokens)
    draw = torch.Generator().manual_seed(0)
    rows = int(next(model.layout.embedding.parameters()).shape[0])
    ids = torch.randint(0, rows, (prompts, tokens), generator=draw).tolist()
    batch = model.batch(ids)

    def plain() -> float:
        start = perf_counter()
        float(model.logits(batch)[0, 0])  # waits for an accelerator
        return perf_counter() - start

    def watched() -> float:
        with monitor.stream(model, other_model=True):
            return plain()

    plain(), watched()
    pairs = [(plain(), watched()) if turn % 2 else tuple(reversed((watched(), plain()))) for turn in range(rounds)]
    weights = sum(int(one.numel()) for one in model.hf.parameters())
    return {
        "prefill_seconds": median(before for before, _ in pairs),
        "with_monitor_seconds": median(after for _, after in pairs),
        "overhead": median(after / before for before, after in pairs) - 1,
        "arithmetic_share": model.d_model / (weights * tokens),
        "prompts": prompts,
        "tokens": tokens,
        "rounds": rounds,
    }
