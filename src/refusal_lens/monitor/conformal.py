"""Thresholds with a stated miss rate: split-conformal quantiles of harmful scores, with many labels, few, or none.

    labels     t = the k-th smallest of n harmful scores, k = floor(miss (n + 1)); a new harmful score lies below t with
               probability at most k / (n + 1) <= miss, whatever the distribution, if it is exchangeable with the n
    none       scores of unlabelled prompts of the language are cut where that leaves most variance between the two sides
               (Otsu); the upper side stands in for the harmful ones. Believed where the share of variance between the
               sides (`separation`) is at least SEPARATED and each side holds at least SMALLEST of the prompts: one normal
               distribution cut in the middle has 2 / pi = 0.64, a flat one 0.75. Below CLEAR, where the sides overlap,
               the threshold is used and nothing is promised. The harmful prompts below the cut are missed too: taken to be as
               many as lie as far above the upper side's median (a group is about symmetric), they count against the target
    few        the threshold moves by n / (n + 1) of the distance between the n labelled harmful scores' mean and where
               the harmful mean was thought to be (as much weight on the prior as on one label)

Sources: Vovk, Gammerman and Shafer (2005), class-conditional conformal prediction; Otsu (1979). No torch here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SEPARATED, CLEAR = 0.70, 0.80
SMALLEST = 0.10
FEWEST = 20
"""Unlabelled prompts below which nothing is cut."""


@dataclass(frozen=True, slots=True)
class Quantile:
    """A threshold and the miss rate that it promises: k / (n + 1)."""

    threshold: float
    promised: float
    n: int


@dataclass(frozen=True, slots=True)
class Split:
    """Unlabelled scores in two.

    Attributes:
        cut: Scores at or above it are on the upper side.
        separation: Share of the variance that lies between the sides, in [0, 1].
        low: Mean of the lower side.
        high: Mean of the upper side.
        share_high: Share of the prompts on the upper side.
    """

    cut: float
    separation: float
    low: float
    high: float
    share_high: float

    @property
    def believed(self) -> bool:
        """Whether the two sides are two groups and not one cut in the middle."""
        return self.separation >= SEPARATED and SMALLEST <= self.share_high <= 1 - SMALLEST

    @property
    def clear(self) -> bool:
        """Whether the sides overlap so little that the upper one stands for the harmful prompts."""
        return self.believed and self.separation >= CLEAR


def conformal(harmful: Float[np.ndarray, " prompt"], miss: float) -> Quantile:
    """The threshold below which a new harmful score falls with probability at most `miss`.

    Args:
        harmful: Scores of labelled harmful prompts that the detector was not fitted on.
        miss: Target miss rate, in (0, 1).

    Returns:
        The threshold; with fewer than 1 / miss - 1 labels the smallest score, which promises 1 / (n + 1).

    Raises:
        ValueError: No scores, or no rate.

    Example:
        >>> conformal(np.arange(1.0, 40.0), 0.05)
        Quantile(threshold=2.0, promised=0.05, n=39)
    """
    n = len(harmful)
    if n == 0 or not 0 < miss < 1:
        raise ValueError(f"{n} harmful scores, target miss {miss}: scores and a rate between 0 and 1 are needed")
    k = max(1, math.floor(miss * (n + 1) + 1e-9))
    return Quantile(float(np.sort(harmful)[k - 1]), k / (n + 1), n)


def split(scores: Float[np.ndarray, " prompt"]) -> Split | None:
    """Cut unlabelled scores in two.

    Args:
        scores: Of prompts of both classes, nobody knows which.

    Returns:
        The cut with the largest variance between its sides; None for too few scores or no spread.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    n = len(ordered)
    spread = float(ordered.var()) if n else 0.0
    if n < FEWEST or spread == 0:
        return None
    below = np.arange(1, n)
    sums = np.cumsum(ordered)[:-1]
    low, high = sums / below, (ordered.sum() - sums) / (n - below)
    between = below * (n - below) / n**2 * (high - low) ** 2
    best = int(np.argmax(between))
    cut = float((ordered[best] + ordered[best + 1]) / 2)
    return Split(cut, float(between[best]) / spread, float(low[best]), float(high[best]), float((n - below[best]) / n))


def stand_in(scores: Float[np.ndarray, " prompt"], cut: float, miss: float) -> Quantile:
    """The threshold where the upper side of a cut stands in for the harmful prompts.

    Args:
        scores: Of unlabelled prompts.
        cut: Where they were cut; some lie at or above it.
        miss: Target miss rate, in (0, 1).

    Returns:
        The threshold, never below the cut, and the miss rate that it promises, hidden ones counted.
    """
    upper = scores[scores >= cut]
    beyond = int((upper > 2 * np.median(upper) - cut).sum())
    hidden = beyond / (len(upper) + beyond)
    if hidden >= miss:
        return Quantile(cut, hidden, len(upper))
    found = conformal(upper, (miss - hidden) / (1 - hidden))
    return Quantile(found.threshold, hidden + (1 - hidden) * found.promised, found.n)


def moved(threshold: float, expected: float, harmful: Float[np.ndarray, " prompt"], miss: float) -> float:
    """A threshold moved by a few labels; by conformal prediction alone once there are enough of them.

    Args:
        threshold: The threshold without labels.
        expected: Where the mean of harmful scores was thought to be.
        harmful: Scores of labelled harmful prompts of the language.
        miss: Target miss rate.

    Returns:
        The new threshold.
    """
    n = len(harmful)
    if n == 0:
        return threshold
    if miss * (n + 1) >= 1:
        return conformal(harmful, miss).threshold
    return threshold + n / (n + 1) * (float(np.mean(harmful)) - expected)
