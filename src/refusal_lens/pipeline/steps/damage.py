"""Step `damage`: what ablating each direction costs on harmless text, in one language.

The harmless text is the model's own undisturbed answers to harmless test prompts, cut at `TOKENS` tokens. With prompt and
answer given (teacher forcing), each answer token has a distribution before and after the ablation:

    kl             mean over answer tokens of KL(before || after), nats
    cross-entropy  mean over answer tokens of -log p(token), nats, before and after

Answers are the baseline's, so its cross-entropy is low by construction; what counts is the increase. Text that the model
would not write itself is not measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.interventions import Ablation, intervening
from refusal_lens.measure import Damage, damage_row
from refusal_lens.model import LensModel
from refusal_lens.pipeline.steps.intake import FILE, read_prompts
from refusal_lens.pipeline.steps.selection import read_direction
from refusal_lens.pipeline.tabular import INTEGER, REAL, TEXT, read_rows, schema, write_table
from refusal_lens.pipeline.workshop import Job

TOKENS = 32
ROWS = 8
DAMAGE = schema(
    intervention=TEXT,
    source=TEXT,
    language=TEXT,
    kl=REAL,
    cross_entropy_before=REAL,
    cross_entropy_after=REAL,
    kl_low=REAL,
    kl_high=REAL,
    increase=REAL,
    increase_low=REAL,
    increase_high=REAL,
    n=INTEGER,
)


@dataclass(frozen=True)
class Text:
    """A prompt with the answer the undisturbed model gave."""

    prompt_id: str
    prompt: list[int]
    answer: list[int]


def damage(job: Job) -> None:
    """Measure every direction on one language."""
    texts = _texts(job)
    options = job.shop.config.interventions
    ablations: dict[str, Ablation] = {}
    for task_id in job.inputs_of("direction") if texts else ():
        source = task_id.removeprefix("direction/")
        found = read_direction(job, source)
        if found is not None:
            reference = found.harmless_projection if options.affine else None
            ablations[source] = Ablation(found.vector, reference=reference, variant=options.variant)
    measured = measure_damage(job.shop.model, texts, ablations)
    rows = [
        damage_row(item, intervention="ablation", source=name, language=job.task.name)
        for name, item in measured.items()
    ]
    write_table(job.folder, "damage", rows, DAMAGE)


def measure_damage(model: LensModel, texts: list[Text], ablations: Mapping[str, Ablation]) -> dict[str, Damage]:
    """Per-text KL and cross-entropy of several ablations.

    Args:
        model: The model.
        texts: Prompts with undisturbed answers, no empty answer.
        ablations: What is done to the model, by name.

    Returns:
        One value per text for each ablation.
    """
    made = {name: np.zeros((3, len(texts))) for name in ablations}
    for first in range(0, len(texts), ROWS):
        part = texts[first : first + ROWS]
        plain = answer_log_probabilities(model, part, None)
        for name, ablation in ablations.items():
            changed = answer_log_probabilities(model, part, ablation)
            for row, (item, p, q) in enumerate(zip(part, plain, changed, strict=True), start=first):
                target = torch.tensor(item.answer, device=p.device).unsqueeze(1)
                divergence = (p.exp() * (p - q)).sum(-1).mean()
                made[name][:, row] = (
                    float(divergence),
                    float(-p.gather(1, target).mean()),
                    float(-q.gather(1, target).mean()),
                )
    ids = [item.prompt_id for item in texts]
    return {name: Damage(ids, *values) for name, values in made.items()}


@torch.no_grad()
def answer_log_probabilities(
    model: LensModel, texts: list[Text], ablation: Ablation | None
) -> list[Float[Tensor, "_ vocab"]]:
    """Log-probabilities of every answer position, prompt and answer given; float32, one tensor per text."""
    batch = model.batch([item.prompt + item.answer for item in texts])
    longest = max(len(item.answer) for item in texts)
    with intervening(model, [ablation]) if ablation is not None else nullcontext():
        logits = model.hf(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            logits_to_keep=longest + 1,
        ).logits
    return [logits[row, -len(item.answer) - 1 : -1].float().log_softmax(-1) for row, item in enumerate(texts)]


def _texts(job: Job) -> list[Text]:
    count = cast("int", job.task.params["prompts"])
    prompts = [
        item for task_id in job.inputs_of("prompts") for item in read_prompts(job.input(task_id, FILE), harm="harmless")
    ]
    answers = {
        str(row["prompt_id"]): str(row["text"])
        for task_id in job.inputs_of("completions")
        for row in read_rows(job.input(task_id, "completions.parquet"))
    }
    model = job.shop.model
    texts: list[Text] = []
    for prompt in prompts:
        if len(texts) == count:
            break
        answer = answers.get(prompt.prompt_id, "")
        ids = (
            cast("list[int]", model.tokenizer(answer, add_special_tokens=False)["input_ids"])[:TOKENS] if answer else []
        )
        if ids:
            texts.append(Text(prompt.prompt_id, model.render([prompt.text])[0], list(ids)))
    return texts
