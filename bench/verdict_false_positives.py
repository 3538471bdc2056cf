"""How often does an audit call a model with random weights universal? It must not.

    nice -n 5 .venv/bin/python bench/verdict_false_positives.py --seeds 20 --out /tmp/false-positives

Each seed draws new weights for the architecture of a testbed model, keeps its tokenizer, and is audited whole (extraction,
selection, ablation, nulls, verdict). Then, because a random model seldom gets past the selection, the same is asked of the
statistics alone: verdict tables in which the direction does exactly what a random direction does (`--tables`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from refusal_lens.config import AuditConfig
from refusal_lens.measure import judge_model, rate_rows, transfer_rows
from refusal_lens.measure.intervals import wilson
from refusal_lens.pipeline import prepare, run_audit
from refusal_lens.testbed import locate

LANGUAGES = ("de", "es", "ja", "zh")


def random_model(seed: int, folder: Path, *, like: str, scale: float) -> Path:
    """A testbed model's folder with new weights; `scale` multiplies them, so that its answers vary."""
    source = locate(like)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    model.save_pretrained(folder)
    return folder


def audit(seed: int, out: Path, *, like: str, scale: float) -> str:
    """Audit one random model and return the verdict."""
    model = random_model(seed, out / f"model-{seed}", like=like, scale=scale)
    settings = AuditConfig.model_validate(
        {
            "model": {"spec": str(model)},
            "data": {"root": str(prompts(out)), "languages": LANGUAGES, "limit": 20},
            "directions": {"sources": LANGUAGES[:2], "n_train": 32, "n_val": 16, "random": 2},
            "generation": {"max_new_tokens": 16},
            "geometry": {"enabled": False},
        }
    )
    run_audit(prepare(settings), out / f"run-{seed}")
    return json.loads((out / f"run-{seed}" / "tables" / "verdict.json").read_text())["verdict"]


def prompts(out: Path) -> Path:
    """The testbed's prompts in PolyRefuse's layout, written once."""
    from refusal_lens.testbed import load_prompts

    root = out / "prompts"
    for language in LANGUAGES:
        for split in ("train", "val", "test"):
            for harm in ("harmful", "harmless"):
                path = root / "PolyRefuse" / f"{harm}_{split}_translated_{language}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                found = load_prompts(language=language, split=split, harm=harm)
                if split == "test":
                    rows = [{"instruction": item.prompt_id, "instruction_translated": item.text} for item in found]
                else:
                    rows = [{"instruction": item.text} for item in found]
                path.write_text(json.dumps(rows), encoding="utf-8")
    return root


def table(rng: np.random.Generator, *, flips: float, n: int, nulls: int) -> str:
    """Verdict on a table in which every direction, real or null, flips the same share of refusals by chance."""
    rows = []
    ids = [f"p{index}" for index in range(n)]
    for language in (f"l{index:02d}" for index in range(14)):
        named = {"prompts": "harmful", "prompt_set": "simulated", "language": language}
        cells = [("baseline", "", np.zeros(n, dtype=bool))]
        for source in ("l00", *(f"random-{index}" for index in range(nulls))):
            cells.append(("ablation", source, rng.random(n) < flips))
        for intervention, source, complied in cells:
            for name, flag in zip(ids, complied, strict=True):
                label = "complied" if flag else "refused"
                rows.append(
                    {**named, "intervention": intervention, "source": source, "prompt_id": name, "label": label}
                )
    return judge_model(rate_rows(rows), transfer_rows(rows, resamples=200), sources={"l00": None}).verdict


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--tables", type=int, default=300)
    parser.add_argument("--like", default="universal")
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for flips in (0.0, 0.05, 0.2, 0.5):
        found = Counter(table(rng, flips=flips, n=100, nulls=3) for _ in range(asked.tables // 4))
        print(f"tables, every direction flips {flips:.0%}: {dict(found)}", flush=True)
    started = time.perf_counter()
    found = Counter[str]()
    for seed in range(asked.seeds):
        found[audit(seed, asked.out, like=asked.like, scale=asked.scale)] += 1
        print(f"random weights, seeds 0..{seed}: {dict(found)} ({time.perf_counter() - started:.0f} s)", flush=True)
    low, high = wilson(found["universal"], asked.seeds)
    print(f"universal: {found['universal']} of {asked.seeds} (95 % interval {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
