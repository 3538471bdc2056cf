"""Peak memory of one piece of work in a process of its own, in MiB above the start.

    python -m bench.memory WORK MODEL_FOLDER

WORK is `extraction-ours`, `extraction-baseline`, `sweep-ours` or `sweep-baseline`. The start is taken after the model is
loaded and one prompt has run, so that libraries and weights are not counted.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from bench import published
from bench.measure import Cost, Line, forget_peak, resident_memory
from bench.models import REPOSITORY, material
from refusal_lens.directions import Candidates, extract
from refusal_lens.directions.evaluation import Contenders, Evaluation
from refusal_lens.directions.passes import passes_for
from refusal_lens.directions.sweep import everything
from refusal_lens.model import load_model, next_token_logits


def memory_lines(name: str, folder: Path) -> list[Line]:
    """MiB above the loaded model, ours and the baseline's, in separate processes."""
    lines: list[Line] = []
    for work in ("extraction", "sweep"):
        ours, baseline = (_measure(f"{work}-{who}", folder) for who in ("ours", "baseline"))
        lines.append(
            Line(
                f"memory {work} {name} (MiB)", Cost(ours, 0.0), Cost(baseline, 0.0), None, "peak above the loaded model"
            )
        )
    return lines


def _measure(work: str, folder: Path) -> float:
    command = [sys.executable, "-m", "bench.memory", work, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure one piece of work."""
    work, folder = sys.argv[1:3]
    torch.set_num_threads(1)
    model, prompts = load_model(folder, dtype="float32", device="cpu"), material()
    next_token_logits(model, prompts.harmful_val[:1])
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(len(model.positions), model.n_layers, model.d_model, generator=generator)
    candidates = Candidates(tensor, model.positions, 0, 0)
    layer = model.n_layers // 4
    tokens = [1, 2]
    forget_peak()
    start = resident_memory()
    with torch.inference_mode(work.endswith("baseline")):
        if work == "extraction-ours":
            extract(model, prompts.harmful_train, prompts.harmless_train)
        elif work == "extraction-baseline":
            for group in (prompts.harmful_train, prompts.harmless_train):
                published.mean_activations(model.hf, model.tokenizer, group, model.positions)
        elif work == "sweep-ours":
            texts = [*prompts.harmful_val, *prompts.harmless_val]
            passes = passes_for(model, model.render(texts))
            contenders = Contenders(tensor[:, layer], (layer,) * len(model.positions))
            evaluation = Evaluation(
                passes, contenders, plain=passes.plain(), n_harmful=len(prompts.harmful_val), token_ids=tokens
            )
            everything(evaluation)
        else:
            before = published.last_logits(model.hf, model.tokenizer, prompts.harmless_val)
            for position in model.positions[:2]:
                vector = candidates.vector(position, layer)
                published.candidate_scores(
                    model.hf, model.tokenizer, vector, layer, prompts.harmful_val, prompts.harmless_val, tokens, before
                )
    print(resident_memory(peak=True) - start)


if __name__ == "__main__":
    main()
