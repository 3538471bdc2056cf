"""Runs side by side: the same cells in several models or checkpoints, paired where the prompts match.

The first run is the reference. For each cell (intervention, source, language, prompts, prompt_set) that both have, prompts
scored in both are compared: difference of compliance, interval, exact McNemar, Holm over all cells of the comparison.
Runs of the same model with other seeds measure the noise floor: how far a cell moves when nothing but the seed changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from refusal_lens.measure.multiplicity import holm
from refusal_lens.measure.paired import RESAMPLES, BootstrapWeights, Paired, compare_paired
from refusal_lens.measure.rates import GROUP, Cell, Record, rate_of

Labels = dict[str, str]
Cells = dict[tuple[Cell, ...], Labels]


def cells_of(verdicts: Iterable[Record]) -> Cells:
    """Labels by prompt, for every cell of a verdict table.

    Args:
        verdicts: Records with the columns of `GROUP`, prompt_id and label.

    Returns:
        Cells in order of appearance.
    """
    cells: Cells = {}
    for record in verdicts:
        key = tuple(record.get(name) for name in GROUP)
        cells.setdefault(key, {})[str(record["prompt_id"])] = str(record["label"])
    return cells


def compare_runs(
    runs: Mapping[str, Iterable[Record]], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Cell]]:
    """Compare runs cell by cell with the first of them.

    Args:
        runs: Verdict tables by run name; the first is the reference.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        One row per cell and run: run, the columns of `GROUP`, k, n, unscored, rate, then against the reference
        reference_rate, difference, low, high, p_value, p_holm, paired (all null for the reference itself, and where the
        reference lacks the cell).
    """
    tables = {name: cells_of(records) for name, records in runs.items()}
    reference = next(iter(tables.values()), {})
    ids = {prompt_id for cells in tables.values() for labels in cells.values() for prompt_id in labels}
    weights = BootstrapWeights(ids, resamples=resamples, seed=seed)
    order = list(dict.fromkeys(key for cells in tables.values() for key in cells))
    found: list[tuple[str, tuple[Cell, ...], Labels, Paired | None]] = []
    for key in order:
        for name, cells in tables.items():
            if key in cells:
                paired = None
                if cells is not reference and key in reference:
                    paired = pair(reference[key], cells[key], weights=weights)
                found.append((name, key, cells[key], paired))
    adjusted = holm([None if paired is None or math.isnan(paired.p_value) else paired.p_value for *_, paired in found])
    return [_row(*item, p_holm) for item, p_holm in zip(found, adjusted, strict=True)]


def pair(before: Labels, after: Labels, *, weights: BootstrapWeights) -> Paired:
    """Compare the compliance of two conditions over the prompts scored in both.

    Args:
        before: Label by prompt id.
        after: Label by prompt id.
        weights: Bootstrap weights drawn over all ids.

    Returns:
        The paired comparison.
    """
    shared = [
        name for name, label in before.items() if label != "unscored" and after.get(name, "unscored") != "unscored"
    ]
    old = np.array([before[name] == "complied" for name in shared], dtype=np.int64)
    new = np.array([after[name] == "complied" for name in shared], dtype=np.int64)
    return compare_paired(old, new, weights=weights.of(shared))


def noise_floor(runs: Sequence[Iterable[Record]]) -> list[dict[str, Cell]]:
    """How far each cell's rate moves over runs that differ in nothing but the seed.

    Args:
        runs: `rates` tables, at least two.

    Returns:
        Rows: the columns of `GROUP`, runs, mean, standard_deviation (n - 1), range, for cells that two runs or more have.
    """
    values: dict[tuple[Cell, ...], list[float]] = {}
    for rows in runs:
        for row in rows:
            if row["rate"] is not None:
                values.setdefault(tuple(row.get(name) for name in GROUP), []).append(float(row["rate"]))
    return [
        dict(zip(GROUP, key, strict=True))
        | {"runs": len(rates), "mean": float(np.mean(rates))}
        | {"standard_deviation": float(np.std(rates, ddof=1)), "range": max(rates) - min(rates)}
        for key, rates in values.items()
        if len(rates) > 1
    ]


def _row(
    name: str, key: tuple[Cell, ...], labels: Labels, paired: Paired | None, p_holm: float | None
) -> dict[str, Cell]:
    rate = rate_of(labels.values())
    row: dict[str, Cell] = {"run": name, **dict(zip(GROUP, key, strict=True))}
    row |= {"k": rate.k, "n": rate.n, "unscored": rate.unscored, "rate": rate.rate if rate.n else None}
    known = paired if paired is not None and paired.n > 0 else None
    return row | {
        "reference_rate": None if known is None else known.before,
        "difference": None if known is None else known.difference,
        "low": None if known is None else known.low,
        "high": None if known is None else known.high,
        "p_value": None if known is None else known.p_value,
        "p_holm": p_holm,
        "paired": None if paired is None else paired.n,
    }
