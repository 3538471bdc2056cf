"""Correct a compliance rate for a judge's known error, with labels on part of the answers.

Prediction-powered inference (Angelopoulos et al. 2023), for a mean:

    rate = mean of the judge over the unlabelled rows + mean over the labelled rows of (label - judge)
    variance = var(judge, unlabelled) / N + var(label - judge, labelled) / n

Rogan-Gladen (1978), from the share of compliances found (sensitivity) and of refusals found (specificity):

    rate = (rate by the judge + specificity - 1) / (sensitivity + specificity - 1)

with an interval by resampling the labelled table and the rows. Both assume that the labelled rows are a random part of
all rows; Rogan-Gladen also that the judge errs alike on both. Neither mends a judge that reads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

_Z = 1.959963984540054
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """A compliance rate before and after correction.

    Attributes:
        method: "prediction-powered" or "rogan-gladen".
        raw: Rate by the judge over all rows.
        rate: Corrected rate, within [0, 1].
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: All rows.
        labelled: Rows with a label.
    """

    method: str
    raw: float
    rate: float
    low: float
    high: float
    n: int
    labelled: int

    def as_dict(self) -> dict[str, object]:
        """All fields by name."""
        return dict(asdict(self))


def prediction_powered(unlabelled: Sequence[bool], labelled: Sequence[tuple[bool, bool]]) -> CorrectedRate | None:
    """Correct by prediction-powered inference.

    Args:
        unlabelled: Complied by the judge, rows without a label.
        labelled: Complied (by label, by judge), rows with a label.

    Returns:
        The corrected rate, None without rows of both kinds or with fewer than two of one.
    """
    if len(unlabelled) < 2 or len(labelled) < 2:
        return None
    judged = np.array(unlabelled, dtype=float)
    truth, guess = np.array(labelled, dtype=float).T
    rate = judged.mean() + (truth - guess).mean()
    spread = math.sqrt(judged.var(ddof=1) / len(judged) + (truth - guess).var(ddof=1) / len(truth))
    return CorrectedRate(
        method="prediction-powered",
        raw=_raw(unlabelled, labelled),
        rate=_clip(rate),
        low=_clip(rate - _Z * spread),
        high=_clip(rate + _Z * spread),
        n=len(judged) + len(truth),
        labelled=len(truth),
    )


def rogan_gladen(unlabelled: Sequence[bool], labelled: Sequence[tuple[bool, bool]]) -> CorrectedRate | None:
    """Correct by the Rogan-Gladen estimator.

    Args:
        unlabelled: Complied by the judge, rows without a label.
        labelled: Complied (by label, by judge), rows with a label.

    Returns:
        The corrected rate, None where the labels hold only one class or the judge is no better than chance on them.
    """
    found, missed = labelled.count((True, True)), labelled.count((True, False))
    false, right = labelled.count((False, True)), labelled.count((False, False))
    if not (found + missed and false + right):
        return None
    n = len(unlabelled) + len(labelled)
    raw = _raw(unlabelled, labelled)
    rate = _estimate(raw, found / (found + missed), right / (false + right))
    if rate is None:
        return None
    generator = np.random.default_rng(0)
    draws: list[float] = []
    for _ in range(_RESAMPLES):
        # Half a count each keeps a resample of a small table from having no error at all.
        sensitivity = generator.beta(found + 0.5, missed + 0.5)
        specificity = generator.beta(right + 0.5, false + 0.5)
        drawn = _estimate(float(generator.binomial(n, raw)) / n, float(sensitivity), float(specificity))
        if drawn is not None:
            draws.append(drawn)
    low, high = (float(value) for value in np.quantile(draws, [0.025, 0.975])) if draws else (0.0, 1.0)
    return CorrectedRate("rogan-gladen", raw, rate, low, high, n, len(labelled))


def with_judge_error(
    complied: int, scored: int, *, found: int, missed: int, false: int, right: int
) -> CorrectedRate | None:
    """A compliance rate corrected for an error of the judge that was measured on other answers of the language.

    Rogan-Gladen with an interval that holds both the answers' chance and the table's: what to show beside a plain rate.

    Args:
        complied: Compliances by the judge.
        scored: Answers scored.
        found: Labelled compliances that the judge called so.
        missed: Labelled compliances that it called refusals.
        false: Labelled refusals that it called compliances.
        right: Labelled refusals that it called so.

    Returns:
        The corrected rate, None where nothing was scored, one class has no label, or the judge is no better than chance.

    Example:
        >>> with_judge_error(50, 100, found=90, missed=10, false=10, right=90).rate
        0.5
    """
    if not scored or not (found + missed and false + right):
        return None
    raw = complied / scored
    rate = _estimate(raw, found / (found + missed), right / (false + right))
    if rate is None:
        return None
    generator = np.random.default_rng(0)
    # Half a count each keeps a small table without errors from claiming that the judge never errs.
    sensitivity = generator.beta(found + 0.5, missed + 0.5, _RESAMPLES)
    specificity = generator.beta(right + 0.5, false + 0.5, _RESAMPLES)
    rates = generator.beta(complied + 0.5, scored - complied + 0.5, _RESAMPLES)
    youden = sensitivity + specificity - 1
    usable = youden > 0
    draws = np.clip((rates[usable] + specificity[usable] - 1) / youden[usable], 0, 1)
    low, high = (float(value) for value in np.quantile(draws, [0.025, 0.975]))
    labelled = found + missed + false + right
    return CorrectedRate("rogan-gladen", raw, rate, min(low, rate), max(high, rate), scored, labelled)


def _estimate(raw: float, sensitivity: float, specificity: float) -> float | None:
    youden = sensitivity + specificity - 1
    return _clip((raw + specificity - 1) / youden) if youden > 0 else None


def _raw(unlabelled: Sequence[bool], labelled: Sequence[tuple[bool, bool]]) -> float:
    complied = sum(unlabelled) + sum(guess for _, guess in labelled)
    return complied / (len(unlabelled) + len(labelled))


def _clip(value: float) -> float:
    return float(min(1.0, max(0.0, value)))
