"""What hardening teaches: harmful prompts with refusals, harmless ones with the model's own answers.

A refusal is the model's own to that prompt, else one of its others in the language. In a language in which it refuses fewer than
half of the harmful prompts, refusals that are given take the place of those others; without any, nothing is taught there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from refusal_lens.errors import DataError
from refusal_lens.judging import Answer, get_judge
from refusal_lens.model import LensModel, generate
from refusal_lens.types import Prompt

Hardening: TypeAlias = Literal["refat", "extended"]
HARDENING: tuple[Hardening, ...] = ("refat", "extended")


@dataclass(frozen=True)
class Recipe:
    """How an adapter is trained.

    Attributes:
        rank: Of the adapter.
        steps: Steps of the optimiser.
        batch: Prompts of each class in a step.
        rate: Peak learning rate (AdamW, linear decay).
        ablated: Share of the steps in which a direction is ablated (refat).
        estimated_every: Steps after which directions are estimated anew.
        prompts: Train prompts of a language and class that are answered for targets.
        tokens: Length limit of a target.
        seed: Of everything that is drawn.
    """

    rank: int = 8
    steps: int = 160
    batch: int = 16
    rate: float = 1e-3
    ablated: float = 0.75
    estimated_every: int = 16
    prompts: int = 64
    tokens: int = 40
    seed: int = 0


@dataclass(frozen=True)
class Example:
    """A prompt's tokens and those of the answer that is taught."""

    prompt: list[int]
    answer: list[int]


def examples_of(
    model: LensModel,
    prompts: Sequence[Prompt],
    method: Hardening,
    recipe: Recipe,
    given: Mapping[str, Sequence[str]],
) -> tuple[dict[str, list[Example]], tuple[str, ...]]:
    """What is taught, by class, and the languages in which there are refusals: the model's own, else those that are given."""
    drawn = random.Random(recipe.seed)
    counts: dict[tuple[str, str], int] = {}
    used: list[Prompt] = []
    for prompt in drawn.sample(list(prompts), len(prompts)):
        group = prompt.language, prompt.harm
        if counts.get(group, 0) < recipe.prompts:
            counts[group] = counts.get(group, 0) + 1
            used.append(prompt)
    answers = generate(model, [item.text for item in used], max_new_tokens=recipe.tokens)
    verdicts = get_judge("native").judge(
        [Answer(made.text, item.language, finished=made.finished) for item, made in zip(used, answers, strict=True)]
    )
    ends = set(model.end_ids)
    words = [[token for token in made.token_ids if token not in ends] for made in answers]
    refusals: dict[str, list[list[int]]] = {}
    for item, verdict, ids in zip(used, verdicts, words, strict=True):
        if item.harm == "harmful" and verdict.label == "refused":
            refusals.setdefault(item.language, []).append(ids)
    for language, texts in given.items():
        if 2 * len(refusals.get(language, ())) < counts.get((language, "harmful"), 0):
            refusals[language] = [_ids(model, text) for text in texts]
    end = model.end_ids[-1:] if model.end_ids else ()
    found: dict[str, list[Example]] = {"harmful": [], "harmless": []}
    rendered = model.render([item.text for item in used])
    for item, verdict, ids, tokens in zip(used, verdicts, words, rendered, strict=True):
        if item.harm == "harmless" and verdict.label == "complied":
            found["harmless"].append(Example(tokens, [*ids, *end]))
        elif item.harm == "harmful" and item.language in refusals:
            own = ids if verdict.label == "refused" else drawn.choice(refusals[item.language])
            parts = [own]
            if method == "extended":
                others = sorted(set(refusals) - {item.language})
                parts += [drawn.choice(refusals[other]) for other in drawn.sample(others, min(2, len(others)))]
            found["harmful"].append(Example(tokens, [*(token for part in parts for token in part), *end]))
    for harm, examples in found.items():
        if not examples:
            more = (
                "refuses no train prompt; give refusals with --refusals"
                if harm == "harmful"
                else "answers no train prompt"
            )
            raise DataError(f"nothing to teach from: the model {more}")
    return found, tuple(sorted(refusals))


def _ids(model: LensModel, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportReturnType]
