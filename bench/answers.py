"""Tokens per CPU second of greedy answers: the plain loop on matrices as files store them, and what `generate` does by itself.

    python -m bench.answers MODEL [--prompts 16] [--tokens 32] [--repeats 3]

One process, one thread, float32 on the CPU; both models are held at once and take turns, so that other work on the machine
slows both alike. Prints a JSON object: CPU and wall seconds of every repeat, tokens per CPU second and the ratio by medians,
and whether every answer is the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any
from unittest.mock import patch

import torch

from bench.measure import Cost, timed
from refusal_lens import testbed
from refusal_lens.model import Engine, Generated, LensModel, generate, load_model


def measured(before: LensModel, now: LensModel, prompts: list[str], *, tokens: int, repeats: int) -> dict[str, Any]:
    """Both ways in turn on the same prompts."""
    said: dict[str, list[Generated]] = {}
    ways = {"plain": (before, Engine("hf", plain=True)), "default": (now, Engine("hf"))}
    for model, engine in ways.values():
        generate(model, prompts[:2], max_new_tokens=2, engine=engine)  # what is proved once per model is no speed
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (model, engine) in ways.items():

            def write(name: str = name, model: LensModel = model, engine: Engine = engine) -> None:
                said[name] = generate(model, prompts, max_new_tokens=tokens, engine=engine)

            costs[name].append(timed(write))
    written = sum(len(answer.token_ids) for answer in said["default"])
    cpu = {name: statistics.median(cost.cpu for cost in found) for name, found in costs.items()}
    return {
        "cpu_s": {name: [round(cost.cpu, 2) for cost in found] for name, found in costs.items()},
        "wall_s": {name: [round(cost.wall, 2) for cost in found] for name, found in costs.items()},
        "tokens": written,
        "tokens_per_cpu_s": {name: round(written / value, 1) for name, value in cpu.items()},
        "ratio": round(cpu["plain"] / cpu["default"], 3),
        "same_answers": said["plain"] == said["default"],
    }


def main() -> None:
    """Load the model twice, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.answers", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with patch("refusal_lens.model.load.arrange_for_cpu"):
        before = load_model(chosen.model, dtype="float32", device="cpu", check=False)
    now = load_model(chosen.model, dtype="float32", device="cpu", check=False)
    both = [testbed.load_prompts(language="en", split="test", harm=harm) for harm in ("harmful", "harmless")]
    prompts = [prompt.text for pair in zip(*both, strict=False) for prompt in pair][: chosen.prompts]
    lengths = [len(ids) for ids in now.render(prompts)]
    found = measured(before, now, prompts, tokens=chosen.tokens, repeats=chosen.repeats)
    facts = {"model": chosen.model, "prompts": len(prompts), "prompt_tokens": [min(lengths), max(lengths)]}
    print(json.dumps({**facts, "limit": chosen.tokens, "torch": torch.__version__, **found}, indent=1))


if __name__ == "__main__":
    main()
