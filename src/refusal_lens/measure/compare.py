"""Runs side by side: the same cells in several models or checkpoints, paired where the prompts match.

The first run is the reference. For each cell (intervention, source, language, prompts, prompt_set) that both have, prompts
scored in both are compared: difference of compliance, interval, exact McNemar, and Holm over the languages that differ in
nothing else (run, intervention, source, prompts, prompt set), as in the transfer table; nulls and pools have no p_holm.
Runs of the same model with other seeds measure the noise floor: how far a cell moves when nothing but the seed changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
from typing_extensions import TypedDict

from refusal_lens.core.names import is_null, is_pool
from refusal_lens.core.table import Fields
from refusal_lens.core.tables import RateRow
from refusal_lens.measure.multiplicity import holm_within
from refusal_lens.measure.paired import RESAMPLES, Draws, Paired, compare_paired
from refusal_lens.measure.panel import by_judge, mark_directions
from refusal_lens.measure.rates import Group, group_of, grouped, rate_of

Labels = dict[str, str]
Cells = dict[Group, Labels]


class ComparedRow(TypedDict):
    """One cell of one run, beside the reference run's."""

    run: str
    intervention: str
    source: str
    language: str
    prompts: str
    prompt_set: str | None
    k: int
    n: int
    unscored: int
    rate: float | None
    reference_rate: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None
    paired: int | None
    judges: str | None


class NoiseRow(TypedDict):
    """How far one cell's rate moves over runs."""

    intervention: str
    source: str
    language: str
    prompts: str
    prompt_set: str | None
    runs: int
    mean: float
    standard_deviation: float
    range: float


def cells_of(verdicts: Iterable[Fields]) -> Cells:
    """Labels by prompt, for every cell of a verdict table.

    Args:
        verdicts: Verdict rows; the columns of `GROUP`, prompt_id and label are read.

    Returns:
        Cells in order of appearance.

    Raises:
        ValueError: One prompt has two different labels in one cell.
    """
    cells: Cells = {}
    for key, rows in grouped(verdicts).items():
        labels = cells.setdefault(key, {})
        for row in rows:
            if labels.setdefault(row["prompt_id"], row["label"]) != row["label"]:
                raise ValueError(
                    f"prompt {row['prompt_id']} is both {labels[row['prompt_id']]} and {row['label']} in the cell"
                    f" {', '.join(map(str, key))}: a cell answers each prompt once"
                )
    return cells


def compare_runs(
    runs: Mapping[str, Iterable[Fields]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    panels: Mapping[str, Iterable[Fields]] | None = None,
) -> list[ComparedRow]:
    """Compare runs cell by cell with the first of them.

    Args:
        runs: Verdict tables by run name; the first is the reference.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.
        panels: Tables `panel` by run name, where several judges judged; those that all runs have fill the column `judges`.

    Returns:
        One row per cell and run; what is against the reference is null for the reference itself, and where it lacks the
        cell.
    """
    runs = {name: list(records) for name, records in runs.items()}
    tables = {name: cells_of(records) for name, records in runs.items()}
    reference = next(iter(tables.values()), {})
    draws = Draws(resamples=resamples, seed=seed)
    order = list(dict.fromkeys(key for cells in tables.values() for key in cells))
    found: list[tuple[str, Group, Labels, Paired | None]] = []
    for key in order:
        for name, cells in tables.items():
            if key in cells:
                paired = None
                if cells is not reference and key in reference:
                    paired = pair(reference[key], cells[key], draws=draws)
                found.append((name, key, cells[key], paired))
    families: dict[tuple[str | None, ...], list[int]] = {}
    for index, (name, (intervention, source, _, prompts, prompt_set), _, paired) in enumerate(found):
        if paired is not None and not math.isnan(paired.p_value) and not is_null(source) and not is_pool(source):
            families.setdefault((name, intervention, source, prompts, prompt_set), []).append(index)
    p_values = [math.nan if paired is None else paired.p_value for *_, paired in found]
    rows = [_row(*item, p_holm) for item, p_holm in zip(found, holm_within(p_values, families.values()), strict=True)]
    voted = {name: by_judge(records, (panels or {}).get(name, ())) for name, records in runs.items()}
    shared = [judge for judge in next(iter(voted.values()), {}) if all(judge in every for every in voted.values())]
    others = [
        compare_runs({name: every[judge] for name, every in voted.items()}, resamples=resamples, seed=seed)
        for judge in shared
    ]
    return mark_directions(rows, others, key=lambda row: (row["run"], *group_of(cast("RateRow", row))))


def pair(before: Labels, after: Labels, *, draws: Draws) -> Paired:
    """Compare the compliance of two conditions over the prompts scored in both.

    Args:
        before: Label by prompt id.
        after: Label by prompt id.
        draws: Bootstrap weights; the pair's own prompts are drawn from, so that no other run changes its interval.

    Returns:
        The paired comparison.
    """
    shared = [
        name for name, label in before.items() if label != "unscored" and after.get(name, "unscored") != "unscored"
    ]
    old = np.array([before[name] == "complied" for name in shared], dtype=np.int64)
    new = np.array([after[name] == "complied" for name in shared], dtype=np.int64)
    return compare_paired(old, new, weights=draws.of(shared))


def noise_floor(runs: Sequence[Iterable[Fields]]) -> list[NoiseRow]:
    """How far each cell's rate moves over runs that differ in nothing but the seed.

    Args:
        runs: `rates` tables, at least two.

    Returns:
        One row per cell that two runs or more have; standard_deviation has n - 1 in the denominator.
    """
    values: dict[Group, list[float]] = {}
    for rows in runs:
        for row in cast("Iterable[RateRow]", rows):
            if row["rate"] is not None:
                values.setdefault(group_of(row), []).append(row["rate"])
    return [
        {
            "intervention": intervention,
            "source": source,
            "language": language,
            "prompts": prompts,
            "prompt_set": prompt_set,
            "runs": len(rates),
            "mean": float(np.mean(rates)),
            "standard_deviation": float(np.std(rates, ddof=1)),
            "range": max(rates) - min(rates),
        }
        for (intervention, source, language, prompts, prompt_set), rates in values.items()
        if len(rates) > 1
    ]


def _row(name: str, key: Group, labels: Labels, paired: Paired | None, p_holm: float | None) -> ComparedRow:
    rate = rate_of(labels.values())
    intervention, source, language, prompts, prompt_set = key
    known = paired if paired is not None and paired.n > 0 else None
    return {
        "run": name,
        "intervention": intervention,
        "source": source,
        "language": language,
        "prompts": prompts,
        "prompt_set": prompt_set,
        "k": rate.k,
        "n": rate.n,
        "unscored": rate.unscored,
        "rate": rate.rate if rate.n else None,
        "reference_rate": None if known is None else known.before,
        "difference": None if known is None else known.difference,
        "low": None if known is None else known.low,
        "high": None if known is None else known.high,
        "p_value": None if known is None else known.p_value,
        "p_holm": p_holm,
        "paired": None if paired is None else paired.n,
        "judges": None,
    }
