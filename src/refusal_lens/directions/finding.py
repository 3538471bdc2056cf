"""From two lists of prompts to a direction in one call: the steps of an audit for one language, without a run directory.

Refusal tokens from the model's own answers -> prompts that behave as their class says -> candidates from train prompts ->
scores on validation prompts -> the rule's choice. An audit stores each of these steps; here only the direction comes back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from refusal_lens.directions.direction import Direction
from refusal_lens.directions.extraction import extract
from refusal_lens.directions.scoring import refusal_scores, score
from refusal_lens.directions.selection import select
from refusal_lens.directions.tokens import discover_refusal_tokens
from refusal_lens.errors import DataError, NoValidDirection
from refusal_lens.judging import Judge, JudgeFunction, as_judge
from refusal_lens.model import BatchSize, LensModel, load_model
from refusal_lens.types import Harm, Prompt, Rule, Split

MINIMUM: Mapping[Split, int] = {"train": 16, "val": 8}
"""Prompts of each class that the filter must leave, or else it is not applied."""
MOST_VALIDATION = 32


def behaving(classes: Sequence[tuple[Harm, Split]], scores: Sequence[float]) -> list[bool] | None:
    """Which prompts behave as their class says: harmful ones with a refusal score above 0, harmless ones below.

    Args:
        classes: Class and split of each prompt.
        scores: Its refusal score in nats.

    Returns:
        Whether to keep each; None where fewer than `MINIMUM` of a class would be left in a split.
    """
    passing = [s > 0 if harm == "harmful" else s < 0 for (harm, _), s in zip(classes, scores, strict=True)]
    left = Counter(group for group, keep in zip(classes, passing, strict=True) if keep)
    harms: tuple[Harm, ...] = ("harmful", "harmless")
    enough = all(left[harm, split] >= minimum for split, minimum in MINIMUM.items() for harm in harms)
    return passing if enough else None


def find_direction(
    model: str | LensModel,
    harmful: Sequence[str | Prompt],
    harmless: Sequence[str | Prompt],
    *,
    language: str = "en",
    judge: str | Judge | JudgeFunction = "native",
    rule: Rule = "paper",
    mode: Literal["exact", "race"] = "exact",
    batch_size: BatchSize = "auto",
) -> Direction:
    """Find a model's refusal direction in one language.

    Args:
        model: A loaded model, or what `load_model` takes: testbed:NAME, a folder, a hub id.
        harmful: Prompts of the one class. `Prompt`s keep their split (train or val); of plain texts the last quarter, 32
            at most, validates.
        harmless: Prompts of the other.
        language: BCP-47 code of the prompts.
        judge: Reads the model's answers: a name, a judge, or a function of one answer.
        rule: Selection rule.
        mode: All candidates, or a race that drops hopeless ones early.
        batch_size: Prompts of one pass, or "auto".

    Returns:
        The selected direction.

    Raises:
        DataError: A class has no train or no validation prompts.
        NoValidDirection: The model refuses too little, or every candidate was discarded; the message says by what.

    Example:
        direction = rl.find_direction("testbed:aligned", harmful, harmless, language="de")
        answers = rl.generate(model, prompts, interventions=[direction.ablation()])
    """
    loaded = load_model(model) if isinstance(model, str) else model
    parts = {**_split("harmful", harmful), **_split("harmless", harmless)}
    tokens = discover_refusal_tokens(
        loaded,
        parts["harmful", "train"],
        parts["harmless", "train"],
        language=language,
        judge=as_judge(judge),
        batch_size=batch_size,
    )
    if not tokens.ids:
        raise NoValidDirection(f"no valid direction: {tokens.reason}")
    pairs = [(group, prompt) for group, prompts in parts.items() for prompt in prompts]
    scores = refusal_scores(loaded, [prompt for _, prompt in pairs], tokens.ids, batch_size=batch_size).tolist()
    keep = behaving([group for group, _ in pairs], scores)
    if keep is not None:
        parts = {
            group: [prompt for (own, prompt), kept in zip(pairs, keep, strict=True) if kept and own == group]
            for group in parts
        }
    candidates = extract(loaded, parts["harmful", "train"], parts["harmless", "train"], batch_size=batch_size)
    measured = score(
        loaded,
        candidates,
        parts["harmful", "val"],
        parts["harmless", "val"],
        refusal_tokens=tokens.ids,
        mode=mode,
        rule=rule,
        batch_size=batch_size,
    )
    chosen = select(measured, n_layers=loaded.n_layers, rule=rule)
    if chosen.selected is None:
        raise NoValidDirection(f"no valid direction: {chosen.reason}")
    return candidates.direction(position=chosen.selected.position, layer=chosen.selected.layer, source=language)


def _split(harm: Harm, prompts: Sequence[str | Prompt]) -> dict[tuple[Harm, Split], list[str | Prompt]]:
    train: list[str | Prompt] = [item for item in prompts if isinstance(item, Prompt) and item.split == "train"]
    val: list[str | Prompt] = [item for item in prompts if isinstance(item, Prompt) and item.split == "val"]
    if not (train and val):
        count = min(MOST_VALIDATION, len(prompts) // 4)
        cut = len(prompts) - count
        train, val = list(prompts[:cut]), list(prompts[cut:])
    if not train or not val:
        raise DataError(f"{len(prompts)} {harm} prompts are too few: give at least 4, better 100 or more")
    return {(harm, "train"): train, (harm, "val"): val}
