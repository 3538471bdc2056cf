"""Lines about generation: what ablating a direction adds to the cost of writing answers."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench import published
from bench.measure import Line, interleaved
from bench.models import Material
from refusal_lens.directions import Candidates
from refusal_lens.interventions import Ablation
from refusal_lens.model import Generated, LensModel, generate


def generation_lines(
    name: str, model: LensModel, candidates: Candidates, material: Material, repeats: int, *, tokens: int = 32
) -> Iterator[Line]:
    """Ablated against plain generation (ratio is plain over ablated), and against the published way of ablating."""
    prompts = material.harmful_val
    vector = candidates.vector(candidates.positions[-1], model.n_layers // 2)
    ablation = [Ablation(vector)]
    results: dict[str, list[Generated]] = {}

    def ours() -> None:
        results["ours"] = generate(model, prompts, max_new_tokens=tokens, interventions=ablation)

    def plain() -> None:
        generate(model, prompts, max_new_tokens=tokens)

    ours_cost, plain_cost = interleaved(ours, plain, repeats)
    note = f"{len(prompts)} prompts, up to {tokens} tokens; baseline is our generation without intervention"
    yield Line(f"ablated generation {name}", ours_cost, plain_cost, None, note)
    hooks = published.ablation_hooks(model.hf, vector)
    written: list[torch.Tensor] = []

    def theirs() -> None:
        written.clear()
        with published.hooked(**hooks):
            for batch in published.batches(model.tokenizer, prompts):
                answer = model.hf.generate(**batch, max_new_tokens=tokens, do_sample=False, pad_token_id=model.pad_id)
                written.extend(answer[:, batch["input_ids"].shape[1] :])

    ours_cost, theirs_cost = interleaved(ours, theirs, repeats)
    same = sum(
        one.token_ids == tuple(two.tolist())[: len(one.token_ids)]
        for one, two in zip(results["ours"], written, strict=True)
    )
    yield Line(
        f"ablated generation {name}, published hooks",
        ours_cost,
        theirs_cost,
        None,
        f"{same} of {len(prompts)} answers equal",
    )
