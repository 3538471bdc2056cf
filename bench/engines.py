"""Tokens per CPU second of both engines on the same prompts, and whether their answers are the same tokens.

    .venv-vllm/bin/python bench/engines.py MODEL [--prompts 64] [--tokens 48] [--threads 1]

One process, one thread by default; the engines take turns, three rounds each, medians of process CPU time (start left out).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import refusal_lens as rl
from refusal_lens import testbed
from refusal_lens.engines import VllmEngine


def timed(answer: Callable[[], list[rl.Generated]]) -> tuple[list[rl.Generated], float]:
    """Answers, and the CPU seconds of this process that they took."""
    start = time.process_time()
    answers = answer()
    return answers, time.process_time() - start


def main() -> None:
    """Measure and print a line for each condition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = rl.load_model(chosen.model, dtype="float32")
    engine = VllmEngine(model)
    prompts = [prompt.text for prompt in testbed.load_prompts(language="en", split="test", harm="harmless")]
    prompts = (prompts * (chosen.prompts // len(prompts) + 1))[: chosen.prompts]
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    for name, interventions in (("untouched", []), ("ablated", [rl.Ablation(direction)])):
        seconds: dict[str, list[float]] = {"hf": [], engine.name: []}
        answers: dict[str, list[rl.Generated]] = {}
        for _ in range(chosen.rounds):
            for which, write in (("hf", lambda *a, **k: rl.generate(model, *a, **k)), (engine.name, engine.generate)):
                answers[which], spent = timed(
                    lambda write=write, changes=interventions: write(
                        prompts, max_new_tokens=chosen.tokens, interventions=changes
                    )
                )
                seconds[which].append(spent)
        tokens = sum(len(answer.token_ids) for answer in answers["hf"])
        same = sum(a.token_ids == b.token_ids for a, b in zip(answers["hf"], answers[engine.name], strict=True))
        rates = ", ".join(f"{which} {tokens / statistics.median(spent):.0f}" for which, spent in seconds.items())
        print(f"{name}: tokens per CPU second: {rates}; same answers {same} of {len(prompts)}")


if __name__ == "__main__":
    main()
