"""Tokens per CPU second of both engines on the same prompts, and whether their answers are the same tokens.

    .venv-vllm/bin/python -m bench.engines MODEL --out DIR [--prompts 64] [--tokens 48] [--threads 1] [--rounds 3]

One process, one thread by default, float32; the engines take turns, so that other work on the machine slows both alike, and
rates are medians of process CPU time. What is started or proved once is left out.

Prints a line for each engine and mode, and writes DIR/engines.json: device, generation[{engine, mode, prompts, tokens,
tokens_per_cpu_s, cpu_s, wall_s}], same_answers{mode: how many of the prompts}.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from bench.measure import Cost, timed
from refusal_lens import testbed
from refusal_lens.engines import VllmEngine
from refusal_lens.interventions import Ablation
from refusal_lens.model import Engine, Generated, LensModel, generate, load_model

Write = Callable[..., list[Generated]]


def measured(
    model: LensModel, ways: Mapping[str, Write], prompts: Sequence[str], *, tokens: int, rounds: int
) -> dict[str, Any]:
    """Every engine in turn on the same prompts, untouched and with a direction ablated."""
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    rows: list[dict[str, object]] = []
    same: dict[str, int] = {}
    modes: tuple[tuple[str, list[Ablation]], ...] = (("plain", []), ("ablated", [Ablation(direction)]))
    for mode, changes in modes:
        said, costs = _in_turn(ways, prompts, rounds, max_new_tokens=tokens, interventions=changes)
        for name, found in costs.items():
            written = sum(len(answer.token_ids) for answer in said[name])
            row: dict[str, object] = {
                "engine": name,
                "mode": mode,
                "prompts": len(prompts),
                "tokens": written,
                "tokens_per_cpu_s": round(written / statistics.median(cost.cpu for cost in found), 1),
                "cpu_s": [round(cost.cpu, 6) for cost in found],
                "wall_s": [round(cost.wall, 6) for cost in found],
            }
            rows.append(row)
            print(row, flush=True)
        each = zip(*said.values(), strict=True)
        same[mode] = sum(len({answer.token_ids for answer in answers}) == 1 for answers in each)
        print(f"{mode}: {same[mode]} of {len(prompts)} answers are the same tokens", flush=True)
    return {"generation": rows, "same_answers": same}


def _in_turn(
    ways: Mapping[str, Write], prompts: Sequence[str], rounds: int, **options: Any
) -> tuple[dict[str, list[Generated]], dict[str, list[Cost]]]:
    """Answers and costs of every engine; the first two answers of each are not counted."""
    said: dict[str, list[Generated]] = {}
    costs: dict[str, list[Cost]] = {name: [] for name in ways}

    def work(name: str, chosen: Sequence[str]) -> None:
        said[name] = ways[name](chosen, **options)

    for name in ways:
        work(name, prompts[:2])
    for _ in range(rounds):
        for name in ways:
            costs[name].append(timed(partial(work, name, prompts)))
    return said, costs


def main() -> None:
    """Load the model in both engines, measure, write."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.engines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = load_model(chosen.model, dtype="float32")
    engine = VllmEngine(model)
    texts = [prompt.text for prompt in testbed.load_prompts(language="en", split="test", harm="harmless")]
    prompts = (texts * (chosen.prompts // len(texts) + 1))[: chosen.prompts]

    def transformers_writes(*what: Any, **options: Any) -> list[Generated]:
        return generate(model, *what, engine=Engine("hf"), **options)

    ways: dict[str, Write] = {"hf": transformers_writes, engine.name: engine.generate}
    facts = {
        "name": platform.processor() or platform.machine(),
        "type": model.device.type,
        "threads": chosen.threads,
        "model": chosen.model,
        "tokens": chosen.tokens,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "engine": engine.name,
        "refusal_lens": version("refusal-lens"),
        "date": datetime.now(UTC).date().isoformat(),
    }
    found = {"device": facts, **measured(model, ways, prompts, tokens=chosen.tokens, rounds=chosen.rounds)}
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "engines.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"# written to {chosen.out / 'engines.json'}")


if __name__ == "__main__":
    main()
