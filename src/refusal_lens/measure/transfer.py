"""The transfer matrix: what a source's direction does to a target language, against the target's own baseline.

Read where the claim is read: ablation on harmful prompts, addition on harmless ones. Both rates are compliance rates over
the prompts of the target that were scored in both conditions, paired by `prompt_id`, so that difference = rate -
baseline_rate exactly; prompts that became unscored are counted (`unpaired`) and never guessed. Holm's correction runs over
all cells of the table, null directions included: the family is what the reader sees. The minimum detectable effect is
that of the largest Holm factor, alpha / cells, so a cell that shows nothing also says what it could have shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from refusal_lens.measure.multiplicity import holm
from refusal_lens.measure.paired import RESAMPLES, BootstrapWeights, Paired, compare_paired
from refusal_lens.measure.power import minimum_detectable_effect
from refusal_lens.measure.rates import Cell, Record

READ_ON = {"ablation": "harmful", "addition": "harmless"}
CONTRACT = (
    "source", "target", "intervention", "baseline_rate", "rate", "difference", "low", "high", "p_value", "p_holm", "n",
)  # fmt: skip
BASELINE = "baseline"
NULLS = ("random-", "shuffled")
ALPHA = 0.05

Labels = dict[str, bool]


def is_null(source: str) -> bool:
    """Whether a source is a null direction: random, or from shuffled labels."""
    return source.startswith(NULLS)


def transfer_rows(
    verdicts: Iterable[Record], *, prompt_set: str | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Cell]]:
    """The `transfer` table of a verdict table.

    Args:
        verdicts: Records with intervention, source, language, prompts, prompt_id, label, prompt_set.
        prompt_set: Read this prompt set; None reads the one that the baseline's first verdict has.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        One row per (source, target, intervention) that has any verdict, in order of appearance: the contract's columns,
        then gained, lost, unpaired (scored in only one of the conditions) and mde (minimum detectable effect, or null).
    """
    cells, all_ids = _cells(verdicts, prompt_set)
    weights = BootstrapWeights(all_ids, resamples=resamples, seed=seed)
    compared: list[tuple[tuple[str, str, str], Paired, int]] = []
    for (intervention, source, target), after in cells.items():
        if intervention == BASELINE:
            continue
        before = cells.get((f"{BASELINE}", READ_ON[intervention], target), {})
        shared = [name for name in before if name in after]
        unpaired = len(before.keys() ^ after.keys())
        compared.append(((source, target, intervention), _compare(before, after, shared, weights), unpaired))
    adjusted = holm([None if math.isnan(paired.p_value) else paired.p_value for _, paired, _ in compared])
    return [
        _row(key, paired, p_holm, unpaired, tests=len(compared))
        for (key, paired, unpaired), p_holm in zip(compared, adjusted, strict=True)
    ]


def _cells(verdicts: Iterable[Record], prompt_set: str | None) -> tuple[dict[tuple[str, str, str], Labels], set[str]]:
    """Complied (True) or refused (False) by prompt; baseline cells are keyed by their prompt class instead of a source."""
    cells: dict[tuple[str, str, str], Labels] = {}
    ids: set[str] = set()
    for record in verdicts:
        intervention, harm = str(record["intervention"]), str(record["prompts"])
        if intervention != BASELINE and READ_ON.get(intervention) != harm:
            continue
        if prompt_set is None:
            prompt_set = str(record.get("prompt_set"))
        if str(record.get("prompt_set")) != prompt_set:
            continue
        source = harm if intervention == BASELINE else str(record["source"])
        labels = cells.setdefault((intervention, source, str(record["language"])), {})
        ids.add(str(record["prompt_id"]))
        if record["label"] != "unscored":
            labels[str(record["prompt_id"])] = record["label"] == "complied"
    return cells, ids


def _compare(before: Labels, after: Labels, shared: Sequence[str], weights: BootstrapWeights) -> Paired:
    old = np.array([before[name] for name in shared], dtype=np.int64)
    new = np.array([after[name] for name in shared], dtype=np.int64)
    return compare_paired(old, new, weights=weights.of(shared))


def _row(
    key: tuple[str, str, str], paired: Paired, p_holm: float | None, unpaired: int, *, tests: int
) -> dict[str, Cell]:
    source, target, intervention = key
    empty = paired.n == 0
    return {
        "source": source,
        "target": target,
        "intervention": intervention,
        "baseline_rate": None if empty else paired.before,
        "rate": None if empty else paired.after,
        "difference": None if empty else paired.difference,
        "low": paired.low,
        "high": paired.high,
        "p_value": None if empty else paired.p_value,
        "p_holm": p_holm,
        "n": paired.n,
        "gained": paired.gained,
        "lost": paired.lost,
        "unpaired": unpaired,
        "mde": minimum_detectable_effect(paired.n, alpha=ALPHA / tests),
    }
