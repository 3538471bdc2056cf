"""A compliance rate corrected for its judge's measured error.

    rate = (rate by the judge + specificity - 1) / (sensitivity + specificity - 1)        (Rogan and Gladen 1978)

sensitivity: share of labelled compliances that the judge called so; specificity: likewise of refusals. The interval is the
central 95 % of the true rate's distribution given the answers and the labelled table (Gelman and Carpenter 2020, "Bayesian
analysis of tests with unknown specificity and sensitivity"): it holds both chances and never has width nothing, not even
where every answer got one verdict. It assumes that the judge errs here as it did on the labelled answers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from scipy import special

NODES = 32
"""Values of sensitivity, and of specificity, at which the distribution is summed up: quantiles of equal weight."""
RATES = 512
"""Values of the true rate between 0 and 1."""


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
    rate = estimate(raw, found / (found + missed), right / (false + right))
    if rate is None:
        return None
    low, high = _interval(complied, scored, found, missed, false, right)
    labelled = found + missed + false + right
    return CorrectedRate("rogan-gladen", raw, rate, min(low, rate), max(high, rate), scored, labelled)


@lru_cache(maxsize=4096)
def _interval(complied: int, scored: int, found: int, missed: int, false: int, right: int) -> tuple[float, float]:
    """Central 95 % of the true rate, Jeffreys priors (half a count each) on it, on sensitivity and on specificity."""
    middles = (np.arange(NODES) + 0.5) / NODES
    sensitivity = special.betaincinv(found + 0.5, missed + 0.5, middles)[:, None, None]
    false_rate = special.betaincinv(false + 0.5, right + 0.5, middles)[None, :, None]
    edges = np.linspace(0, 1, RATES + 1)
    rate = (edges[1:] + edges[:-1]) / 2
    seen = rate * sensitivity + (1 - rate) * false_rate
    fit = special.xlogy(complied, seen) + special.xlog1py(scored - complied, -seen)
    weight = np.exp(fit - fit.max()).sum(axis=(0, 1)) * np.diff(special.betainc(0.5, 0.5, edges))
    below = np.concatenate([[0.0], np.cumsum(weight) / weight.sum()])
    low, high = np.interp([0.025, 0.975], below, edges)
    return float(low), float(high)


def estimate(raw: float, sensitivity: float, specificity: float) -> float | None:
    """Rogan and Gladen's estimate within [0, 1]; None for a judge no better than chance."""
    youden = sensitivity + specificity - 1
    return clip((raw + specificity - 1) / youden) if youden > 0 else None


def clip(value: float) -> float:
    """The nearest share in [0, 1]."""
    return float(min(1.0, max(0.0, value)))
