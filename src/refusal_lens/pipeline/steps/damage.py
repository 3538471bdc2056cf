"""Step `damage`: what removing each direction costs on harmless text, in one language, by every intervention that removes.

The harmless text is the model's own undisturbed answers to harmless test prompts, cut at `TOKENS` tokens. With prompt and
answer given (teacher forcing), each answer token has a distribution before and after the ablation:

    kl             mean over answer tokens of KL(before || after), nats
    cross-entropy  mean over answer tokens of -log p(token), nats, before and after

Answers are the baseline's, so its cross-entropy is low by construction; what counts is the increase. Text that the model
would not write itself is not measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.core import tables
from refusal_lens.core.interventions import DECLARED
from refusal_lens.core.tables import DamageRow
from refusal_lens.interventions import Intervention, intervening, make
from refusal_lens.measure import Damage, damage_row
from refusal_lens.model import LensModel
from refusal_lens.pipeline.cells import damaging
from refusal_lens.pipeline.dataset import test_part
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tools
from refusal_lens.pipeline.steps.completions import TABLE as COMPLETIONS
from refusal_lens.pipeline.steps.direction import read_direction
from refusal_lens.pipeline.steps.prompts import read_prompts
from refusal_lens.types import JsonValue

TOKENS = 32
ROWS = 8
PROMPTS = 32
TABLE = replace(tables.DAMAGE, final=False)


@dataclass(frozen=True)
class Params:
    """The language, how many prompts of it are read, and the options of each intervention that is measured."""

    language: str
    prompts: int
    interventions: dict[str, dict[str, JsonValue]]


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each target language whose harmless prompts are answered."""
    chosen = planning.config.interventions.chosen
    removing = {name: options for name, options in chosen.items() if DECLARED[name].reads_on == "harmful"}
    if not removing or not planning.sources or not planning.config.interventions.side_effects:
        return
    directions = tuple(f"direction/{name}" for name in damaging(planning.config))
    for language in planning.config.data.languages:
        answers = planning.baseline("completions", language, "harmless")
        if answers:
            params = Params(language, PROMPTS, removing)
            yield Ask(language, params, (f"prompts/{test_part(language)}", *answers, *directions))


@dataclass(frozen=True)
class Text:
    """A prompt with the answer the undisturbed model gave."""

    prompt_id: str
    prompt: list[int]
    answer: list[int]


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Measure every direction on one language."""
    texts = _texts(params, inputs, tools.model)
    found = {source: read_direction(inputs, source) for source in inputs.of("direction")} if texts else {}
    rows: list[DamageRow] = []
    for intervention, options in params.interventions.items():
        applied = {
            source: make(intervention, options, [direction])
            for source, direction in found.items()
            if direction is not None
        }
        rows += [
            damage_row(item, intervention=intervention, source=source, language=params.language)
            for source, item in measure_damage(tools.model, texts, applied).items()
        ]
    return [Rows(TABLE, rows)]


def measure_damage(
    model: LensModel, texts: list[Text], applied: Mapping[str, Sequence[Intervention]]
) -> dict[str, Damage]:
    """Per-text KL and cross-entropy under one intervention or another.

    Args:
        model: The model.
        texts: Prompts with undisturbed answers, no empty answer.
        applied: What is done to the model, by name.

    Returns:
        One value per text for each name.
    """
    made = {name: np.zeros((3, len(texts))) for name in applied}
    for first in range(0, len(texts), ROWS):
        part = texts[first : first + ROWS]
        plain = answer_log_probabilities(model, part, ())
        for name, interventions in applied.items():
            changed = answer_log_probabilities(model, part, interventions)
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
    model: LensModel, texts: list[Text], interventions: Sequence[Intervention]
) -> list[Float[Tensor, "_ vocab"]]:
    """Log-probabilities of every answer position, prompt and answer given; float32, one tensor per text."""
    batch = model.batch([item.prompt + item.answer for item in texts])
    longest = max(len(item.answer) for item in texts)
    with intervening(model, interventions):
        logits = model.hf(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            logits_to_keep=longest + 1,
        ).logits
    return [logits[row, -len(item.answer) - 1 : -1].float().log_softmax(-1) for row, item in enumerate(texts)]


def _texts(params: Params, inputs: Inputs, model: LensModel) -> list[Text]:
    prompts = [
        item for task_id in inputs.of("prompts").values() for item in read_prompts(inputs, task_id, harm="harmless")
    ]
    answers = {
        row["prompt_id"]: row["text"]
        for task_id in inputs.of("completions").values()
        for row in inputs.rows(COMPLETIONS, task_id)
    }
    texts: list[Text] = []
    for prompt in prompts:
        if len(texts) == params.prompts:
            break
        answer = answers.get(prompt.prompt_id, "")
        ids = (
            cast("list[int]", model.tokenizer(answer, add_special_tokens=False)["input_ids"])[:TOKENS] if answer else []
        )
        if ids:
            texts.append(Text(prompt.prompt_id, model.render([prompt.text])[0], list(ids)))
    return texts


STEP = Step(
    name="damage",
    version=2,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("model",),
    reads=("prompts", "completions", "direction"),
    tables=(TABLE,),
)
