"""The transfer matrix: what a source's direction does to a target language, against the target's own baseline.

Read where the claim is read (`core.interventions`): ablation on harmful prompts, addition on harmless ones. Both rates are
compliance rates over the prompts of the target that were scored in both conditions, paired by `prompt_id`, so that
difference = rate - baseline_rate exactly. Prompts scored in one condition only are counted and never guessed: `unpaired`
holds them all, `lost_unscored` those that the intervention made unreadable (scored before, not after).

A row is a function of its own pairs and of the seed, with three exceptions, each by a rule: `p_holm` and `mde` know how
many targets the same source and intervention have (docs/decisions/007-holm-family.md), `null_difference` knows the nulls
on the same target. Nothing else that a run asks for changes a row.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np

from refusal_lens.core.interventions import reads_on
from refusal_lens.core.names import ALPHA, BASELINE, is_null, is_pool
from refusal_lens.core.table import Fields
from refusal_lens.core.tables import TransferRow, VerdictRow
from refusal_lens.measure.multiplicity import holm_within
from refusal_lens.measure.paired import RESAMPLES, Draws, Paired, compare_paired
from refusal_lens.measure.panel import by_judge, disagree, mark_directions
from refusal_lens.measure.power import minimum_detectable_effect

CONTRACT = (
    "source", "target", "intervention", "baseline_rate", "rate", "difference", "low", "high", "p_value", "p_holm", "n",
)  # fmt: skip

Labels = dict[str, str]
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Compared:
    source: str
    target: str
    intervention: str
    paired: Paired
    unpaired: int
    lost: int

    @property
    def family(self) -> tuple[str, str] | None:
        """Rows corrected together: the targets of one source under one intervention; None for nulls and pools."""
        untested = math.isnan(self.paired.p_value) or is_null(self.source) or is_pool(self.source)
        return None if untested else (self.source, self.intervention)


def transfer_rows(
    verdicts: Iterable[Fields],
    *,
    prompt_set: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    panel: Iterable[Fields] = (),
) -> list[TransferRow]:
    """The `transfer` table of a verdict table.

    Args:
        verdicts: Verdict rows; only intervention, source, language, prompts, prompt_id, label and prompt_set are read.
        prompt_set: Read this prompt set; None reads the one that the first baseline verdict has.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.
        panel: The table `panel`, where several judges judged; it fills the column `judges`.

    Returns:
        One row per (source, target, intervention) that has any verdict, in order of appearance.

    Raises:
        ValueError: One prompt has two different labels in one cell.
    """
    verdicts = list(verdicts)
    cells = _cells(cast("Iterable[VerdictRow]", verdicts), prompt_set)
    draws = Draws(resamples=resamples, seed=seed)
    compared: list[_Compared] = []
    for (intervention, source, target), after in cells.items():
        if intervention == BASELINE:
            continue
        before = cells.get((BASELINE, str(reads_on(intervention)), target), {})
        old, new = _scored(before), _scored(after)
        shared = sorted(old.keys() & new.keys())
        paired = compare_paired(
            np.array([old[name] for name in shared], dtype=np.int64),
            np.array([new[name] for name in shared], dtype=np.int64),
            weights=draws.of(shared),
        )
        lost = len((old.keys() & after.keys()) - new.keys())
        compared.append(_Compared(source, target, intervention, paired, len(old.keys() ^ new.keys()), lost))
    others = [
        transfer_rows(rows, prompt_set=prompt_set, resamples=resamples, seed=seed)
        for rows in by_judge(verdicts, panel).values()
    ]
    return mark_directions(_rows(compared), others, key=lambda row: (row["source"], row["target"], row["intervention"]))


def raised(row: Fields, table: Iterable[Fields] = ()) -> bool | None:
    """Whether an effect is larger than chance: the one rule of headline, page and verdict.

    The paired test rejects (`p_value` < `ALPHA`), and the 95 % interval lies beyond zero and beyond what any null direction
    did to the same target: above under ablation, which should raise compliance; below under addition, which should raise
    refusal. The test is the row's own: no other row of the run can change the answer (docs/statistics.md says why).

    Args:
        row: A row of `transfer`.
        table: The rows that hold the nulls, for a table without the column `null_difference`.

    Returns:
        The answer; None where no prompt was scored in both conditions, no null direction was run, or the judges of a panel
        disagree about the direction.
    """
    cell = cast("TransferRow", row)
    if disagree(row):
        return None
    sign = -1 if reads_on(cell["intervention"]) == "harmless" else 1  # there it is refusal that is meant to rise
    null = cell.get("null_difference")
    if null is None:
        null = strongest_null(table, target=cell["target"], intervention=cell["intervention"])
    if null is None or cell["p_value"] is None or cell["low"] is None or cell["high"] is None:
        return None
    bound = min(sign * cell["low"], sign * cell["high"])
    return cell["p_value"] < ALPHA and bound > max(0.0, sign * null)


def strongest_null(table: Iterable[Fields], *, target: str, intervention: str) -> float | None:
    """Largest effect of a null direction on a target: the largest difference on harmful prompts, the smallest on harmless."""
    found = [
        row["difference"]
        for row in cast("Iterable[TransferRow]", table)
        if is_null(row["source"]) and (row["target"], row["intervention"]) == (target, intervention)
    ]
    known = [value for value in found if value is not None]
    if not known:
        return None
    return min(known) if reads_on(intervention) == "harmless" else max(known)


def _cells(verdicts: Iterable[VerdictRow], prompt_set: str | None) -> dict[Key, Labels]:
    """Label by prompt; baseline cells are keyed by their prompt class instead of a source."""
    rows = [row for row in verdicts if row["intervention"] == BASELINE or _is_read(row)]
    if prompt_set is None and rows:
        first = next((row for row in rows if row["intervention"] == BASELINE), rows[0])
        prompt_set = str(first.get("prompt_set"))
    cells: dict[Key, Labels] = {}
    for row in rows:
        if str(row.get("prompt_set")) != prompt_set:
            continue
        source = row["prompts"] if row["intervention"] == BASELINE else row["source"]
        labels = cells.setdefault((row["intervention"], source, row["language"]), {})
        if labels.setdefault(row["prompt_id"], row["label"]) != row["label"]:
            raise ValueError(
                f"prompt {row['prompt_id']} is both {labels[row['prompt_id']]} and {row['label']} in the cell"
                f" {row['intervention']}, {source}, {row['language']}: a cell answers each prompt once"
            )
    return cells


def _is_read(row: VerdictRow) -> bool:
    return reads_on(row["intervention"]) == row["prompts"]


def _scored(labels: Labels) -> dict[str, bool]:
    return {name: label == "complied" for name, label in labels.items() if label != "unscored"}


def _rows(compared: list[_Compared]) -> list[TransferRow]:
    families: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for index, item in enumerate(compared):
        if item.family is not None:
            families[item.family].append(index)
    adjusted = holm_within([item.paired.p_value for item in compared], families.values())
    rows = [
        _row(item, p_holm, tests=1 if item.family is None else len(families[item.family]))
        for item, p_holm in zip(compared, adjusted, strict=True)
    ]
    nulls = [row for row in rows if is_null(row["source"])]
    for row in rows:
        row["null_difference"] = strongest_null(nulls, target=row["target"], intervention=row["intervention"])
    return rows


def _row(item: _Compared, p_holm: float | None, *, tests: int) -> TransferRow:
    paired = item.paired
    empty = paired.n == 0
    return {
        "source": item.source,
        "target": item.target,
        "intervention": item.intervention,
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
        "unpaired": item.unpaired,
        "mde": minimum_detectable_effect(paired.n, alpha=ALPHA / tests),
        "lost_unscored": item.lost,
        "null_difference": None,
        "judges": None,
    }
