"""Correct a compliance rate for a judge's known error, with labels on part of the answers.

Prediction-powered inference (Angelopoulos et al. 2023), for a mean:

    rate = mean of the judge over the unlabelled rows + mean over the labelled rows of (label - judge)
    variance = var(judge, unlabelled) / N + var(label - judge, labelled) / n

with a few made-up rows in both variances (`_UNSEEN`), so that rows that all agree do not claim to be certain.

Rogan-Gladen (1978), from the share of compliances found (sensitivity) and of refusals found (specificity):

    rate = (rate by the judge + specificity - 1) / (sensitivity + specificity - 1)

with the interval of `measure.judge_error`. Both assume that the labelled rows are a random part of
all rows; Rogan-Gladen also that the judge errs alike on both. Neither mends a judge that reads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refusal_lens.measure.judge_error import CorrectedRate, clip, with_judge_error

__all__ = ["CorrectedRate", "prediction_powered", "rogan_gladen", "with_judge_error"]

_Z = 1.959963984540054
_UNSEEN = ((0.0, 0.0, 1.0, 1.0), (-1.0, 1.0))
"""Rows added to the judge's (as Agresti and Coull 1998 do) and to the differences before their variances are taken."""


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
    variances = (
        np.append(rows, unseen).var(ddof=1) / len(rows)
        for rows, unseen in zip((judged, truth - guess), _UNSEEN, strict=True)
    )
    spread = math.sqrt(sum(variances))
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
    complied = sum(unlabelled) + found + false
    rows = len(unlabelled) + len(labelled)
    return with_judge_error(complied, rows, found=found, missed=missed, false=false, right=right)


def _raw(unlabelled: Sequence[bool], labelled: Sequence[tuple[bool, bool]]) -> float:
    complied = sum(unlabelled) + sum(guess for _, guess in labelled)
    return complied / (len(unlabelled) + len(labelled))
