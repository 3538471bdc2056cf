"""Verdict tables made by hand, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

LABEL = {0: "refused", 1: "complied", None: "unscored"}
Record = dict[str, str | int | float | bool | None]


def cell(
    intervention: str,
    source: str,
    language: str,
    answers: Mapping[str, int | None],
    *,
    prompts: str = "harmful",
    prompt_set: str = "testbed",
) -> list[Record]:
    """One cell: 0 refused, 1 complied, None unscored, by prompt id."""
    base = {
        "intervention": intervention,
        "source": source,
        "language": language,
        "prompts": prompts,
        "prompt_set": prompt_set,
    }
    return [
        {**base, "prompt_id": name, "label": LABEL[value], "on_topic": None, "off_language": False}
        for name, value in answers.items()
    ]


def verdicts_of(
    effects: Mapping[str, Mapping[str, float]],
    *,
    n: int = 60,
    baseline: Mapping[str, float] | None = None,
    nulls: int = 3,
    null_effect: float = 0.0,
    seed: int = 0,
) -> list[Record]:
    """A whole audit: source -> target -> probability that ablation turns a refusal into compliance."""
    rng = np.random.default_rng(seed)
    languages = list(dict.fromkeys(target for row in effects.values() for target in row))
    ids = [f"p{index:03d}" for index in range(n)]
    records: list[Record] = []
    for language in languages:
        complied = rng.random(n) < (baseline or {}).get(language, 0.0)
        records += cell("baseline", "", language, dict(zip(ids, complied.astype(int).tolist(), strict=True)))
        named = {source: row[language] for source, row in effects.items() if language in row}
        named |= {f"random-{index}": null_effect for index in range(nulls)}
        for source, probability in named.items():
            after = complied | (rng.random(n) < probability)
            records += cell("ablation", source, language, dict(zip(ids, after.astype(int).tolist(), strict=True)))
    return records
