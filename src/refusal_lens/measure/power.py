"""How small an effect this many prompts could have shown: the minimum detectable effect of the exact McNemar test.

With n pairs, of which a share `gain` flips up and `loss` flips down, the power is

    sum over m of P(m discordant) * P(the exact test of m discordant pairs rejects)

and the effect is the smallest gain - loss whose power reaches the asked one. It presumes independent prompts; where the
test is corrected for several cells, pass the corrected alpha (alpha / number of cells bounds Holm from above).
The other way round, `pairs_needed` says how many prompts a given effect asks for.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from scipy.stats import binom

MANY_PAIRS = 20_000


def mcnemar_power(n: int, *, gain: float, loss: float = 0.0, alpha: float = 0.05) -> float:
    """Power of the exact two-sided McNemar test.

    Args:
        n: Pairs.
        gain: Probability that a pair changes from 0 to 1.
        loss: Probability that a pair changes from 1 to 0; gain + loss <= 1.
        alpha: Size of the test.

    Returns:
        Probability of rejecting.
    """
    moved = gain + loss
    if n == 0 or moved == 0:
        return 0.0
    discordant = np.arange(1, n + 1)
    critical = _critical(n, alpha)
    up = gain / moved
    rejects = binom.cdf(critical, discordant, up) + binom.sf(discordant - critical - 1, discordant, up)
    rejects = np.where(critical < 0, 0.0, rejects)
    return float((binom.pmf(discordant, n, moved) * rejects).sum())


@lru_cache(maxsize=4096)
def minimum_detectable_effect(n: int, *, loss: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest difference that n pairs show with the given power.

    Args:
        n: Pairs scored under both conditions.
        loss: Share of pairs that change against the effect, e.g. measured with random directions.
        alpha: Size of the test.
        power: Wanted probability of showing the effect.

    Returns:
        The difference, a share in (0, 1], to three decimals upwards; None when even a full flip would not show.
    """
    if mcnemar_power(n, gain=1 - loss, loss=loss, alpha=alpha) < power:
        return None
    low, high = loss, 1 - loss
    while high - low > 5e-4:
        middle = (low + high) / 2
        if mcnemar_power(n, gain=middle, loss=loss, alpha=alpha) >= power:
            high = middle
        else:
            low = middle
    return round(float(np.ceil((high - loss) * 1000) / 1000), 3)


@lru_cache(maxsize=4096)
def pairs_needed(
    *, gain: float, loss: float = 0.0, beyond: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """How many pairs would show an effect: the exact test rejects, and the 95 % interval lies above a bound.

    Args:
        gain: Share of pairs that change from 0 to 1.
        loss: Share of pairs that change from 1 to 0.
        beyond: What the interval must exceed, e.g. the difference that a null direction makes.
        alpha: Size of the test.
        power: Wanted probability of each.

    Returns:
        The larger of two numbers: of the exact test, by search, and of the interval, by normal approximation. None where
        gain - loss does not exceed the bound, or `MANY_PAIRS` would not do.
    """
    difference = gain - loss
    if difference <= max(beyond, 0.0):
        return None
    normal = NormalDist()
    spread = math.sqrt(max(gain + loss - difference**2, 0.0))
    for_interval = ((normal.inv_cdf(0.975) + normal.inv_cdf(power)) * spread / (difference - beyond)) ** 2
    if for_interval > MANY_PAIRS:
        return None
    low, high = 1, 8
    while mcnemar_power(high, gain=gain, loss=loss, alpha=alpha) < power:
        low, high = high, 2 * high
        if high > MANY_PAIRS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = mcnemar_power(middle, gain=gain, loss=loss, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return max(high, math.ceil(for_interval))


@lru_cache(maxsize=256)
def _critical(n: int, alpha: float) -> np.ndarray:
    """Largest c for each m = 1..n such that 2 P(Binomial(m, 1/2) <= c) <= alpha; -1 where there is none."""
    discordant = np.arange(1, n + 1)
    guess = binom.ppf(alpha / 2, discordant, 0.5)
    return np.where(2 * binom.cdf(guess, discordant, 0.5) <= alpha, guess, guess - 1)
