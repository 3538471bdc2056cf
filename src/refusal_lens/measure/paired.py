"""Paired before/after comparisons of binary outcomes on the same prompts.

    difference = mean(after - before)                                         over prompts scored both times
    interval   = percentile bootstrap over prompts, never narrower than Newcombe's paired score interval
    p_value    = exact two-sided McNemar: min(1, 2 P(X <= min(gained, lost))), X ~ Binomial(gained + lost, 1/2)

Bootstrap weights are drawn over a comparison's own prompts (`Draws`), so that no other cell or run can change an interval;
comparisons of the same prompts share their draw. The percentile bootstrap has zero width when every
prompt flips; Newcombe's interval does not, hence the union of both. Not done here: any correction for several tests.
Sources: McNemar (1947); Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10; Efron and Tibshirani (1993).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.stats import binomtest

from refusal_lens.measure.intervals import wilson

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Paired:
    """What changed between two conditions on the same prompts.

    Attributes:
        n: Prompts scored under both conditions.
        gained: Prompts that were 0 before and 1 after.
        lost: Prompts that were 1 before and 0 after.
        before: Share of ones before, over the n prompts; NaN when n is 0.
        after: Share of ones after; NaN when n is 0.
        difference: after - before; NaN when n is 0.
        low: Lower bound of the 95 % interval of the difference; -1 when n is 0.
        high: Upper bound; 1 when n is 0.
        p_value: Exact two-sided McNemar; NaN when n is 0, 1 when nothing changed.
    """

    n: int
    gained: int
    lost: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float


class BootstrapWeights:
    """How often each cluster (prompt) is drawn in each resample; drawn once, used for every cell."""

    def __init__(self, clusters: Iterable[str], *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        """Draw the weights.

        Args:
            clusters: Names of all clusters, in any order, repeats ignored: only the set decides the draw.
            resamples: Number of resamples.
            seed: Seed of the draw.
        """
        names = sorted(set(clusters))
        self._column = {name: column for column, name in enumerate(names)}
        rng = np.random.default_rng(seed)
        shares = np.full(max(len(names), 1), 1 / max(len(names), 1))
        self._counts: Int[np.ndarray, "resample cluster"] = rng.multinomial(len(names), shares, size=resamples)

    def of(self, clusters: Sequence[str]) -> Int[np.ndarray, "resample row"]:
        """Weights of a set of rows.

        Args:
            clusters: The cluster of each row; all were named when the weights were drawn.

        Returns:
            Weight of each row in each resample.
        """
        return self._counts[:, [self._column[name] for name in clusters]]


class Draws:
    """Weights by set of clusters: only the set and the seed decide them, whatever else is compared."""

    def __init__(self, *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        """Draw nothing yet.

        Args:
            resamples: Number of resamples.
            seed: Seed of every draw.
        """
        self._resamples, self._seed = resamples, seed
        self._drawn: dict[frozenset[str], BootstrapWeights] = {}

    def of(self, clusters: Sequence[str]) -> Int[np.ndarray, "resample row"]:
        """Weights of a set of rows, drawn over their own clusters."""
        names = frozenset(clusters)
        if names not in self._drawn:
            self._drawn[names] = BootstrapWeights(names, resamples=self._resamples, seed=self._seed)
        return self._drawn[names].of(clusters)


def compare_paired(
    before: Num[np.ndarray, " row"], after: Num[np.ndarray, " row"], *, weights: Num[np.ndarray, "resample row"]
) -> Paired:
    """Compare two binary outcomes of the same rows.

    Args:
        before: 0 or 1 per row.
        after: 0 or 1 per row, same order.
        weights: Bootstrap weights of the rows, from `BootstrapWeights.of`.

    Returns:
        The difference with its interval and exact test.
    """
    n = len(before)
    if n == 0:
        return Paired(0, 0, 0, math.nan, math.nan, math.nan, -1.0, 1.0, math.nan)
    change = after.astype(np.int64) - before.astype(np.int64)
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    low, high = newcombe_paired(both=int(((before > 0) & (after > 0)).sum()), gained=gained, lost=lost, n=n)
    drawn = bootstrap_means(change.astype(np.float64), weights=weights)
    if len(drawn):
        low, high = min(low, float(np.quantile(drawn, 0.025))), max(high, float(np.quantile(drawn, 0.975)))
    return Paired(
        n=n,
        gained=gained,
        lost=lost,
        before=float(before.mean()),
        after=float(after.mean()),
        difference=(gained - lost) / n,
        low=low,
        high=high,
        p_value=mcnemar_exact(gained, lost),
    )


def mcnemar_exact(gained: int, lost: int) -> float:
    """Exact two-sided McNemar test.

    Args:
        gained: Pairs that changed from 0 to 1.
        lost: Pairs that changed from 1 to 0.

    Returns:
        p value; 1 when no pair changed.
    """
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def bootstrap_means(
    values: Float[np.ndarray, " row"], *, weights: Num[np.ndarray, "resample row"]
) -> Float[np.ndarray, " drawn"]:
    """Mean of the values in each resample; resamples in which no row was drawn are left out."""
    totals = weights.sum(axis=1)
    kept = totals > 0
    return (weights[kept] @ values) / totals[kept]


def newcombe_paired(*, both: int, gained: int, lost: int, n: int) -> tuple[float, float]:
    """Newcombe's score interval (method 10) of a difference of two paired proportions.

    Args:
        both: Pairs that are 1 before and after.
        gained: Pairs that changed from 0 to 1.
        lost: Pairs that changed from 1 to 0.
        n: All pairs, more than 0.

    Returns:
        95 % interval of (share after - share before).
    """
    neither = n - both - gained - lost
    after, before = (both + gained) / n, (both + lost) / n
    (low_a, high_a), (low_b, high_b) = wilson(both + gained, n), wilson(both + lost, n)
    product = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    phi = 0.0
    if product:
        numerator = both * neither - gained * lost
        corrected = max(numerator - n / 2, 0.0) if numerator > 0 else float(numerator)
        phi = corrected / math.sqrt(product)
    difference = after - before
    down_a, up_a, down_b, up_b = after - low_a, high_a - after, before - low_b, high_b - before
    low = difference - math.sqrt(max(down_a**2 - 2 * phi * down_a * up_b + up_b**2, 0.0))
    high = difference + math.sqrt(max(up_a**2 - 2 * phi * up_a * down_b + down_b**2, 0.0))
    return max(low, -1.0), min(high, 1.0)
