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

import numpy as np

from refusal_lens.measure.judge_error import RESAMPLES, CorrectedRate, clip, estimate, with_judge_error

__all__ = ["CorrectedRate", "prediction_powered", "rogan_gladen", "with_judge_error"]

_Z = 1.959963984540054


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
        rate=clip(rate),
        low=clip(rate - _Z * spread),
        high=clip(rate + _Z * spread),
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
    rate = estimate(raw, found / (found + missed), right / (false + right))
    if rate is None:
        return None
    generator = np.random.default_rng(0)
    draws: list[float] = []
    for _ in range(RESAMPLES):
        # Half a count each keeps a resample of a small table from having no error at all.
        sensitivity = generator.beta(found + 0.5, missed + 0.5)
        specificity = generator.beta(right + 0.5, false + 0.5)
        drawn = estimate(float(generator.binomial(n, raw)) / n, float(sensitivity), float(specificity))
        if drawn is not None:
            draws.append(drawn)
    low, high = (float(value) for value in np.quantile(draws, [0.025, 0.975])) if draws else (0.0, 1.0)
    return CorrectedRate("rogan-gladen", raw, rate, low, high, n, len(labelled))


def _raw(unlabelled: Sequence[bool], labelled: Sequence[tuple[bool, bool]]) -> float:
    complied = sum(unlabelled) + sum(guess for _, guess in labelled)
    return complied / (len(unlabelled) + len(labelled))
