"""Why languages leak: does separation along the shared direction go with how often a language complies at baseline?

    rho        Spearman's rank correlation over languages of (separation, baseline compliance)
    interval   Bonett and Wright: tanh(atanh(rho) +- z sqrt((1 + rho^2/2) / (n - 3)))
    p_value    permutation of languages, two-sided, exact for n <= 7, else `PERMUTATIONS` seeded draws

Nothing is computed below six languages, nor where more than half of them have one and the same value (`core.ranks`): a
rank among ties says nothing. With 14 languages the interval is wide and languages are not a random sample (related ones resemble
each other):
this is a description of one model, not a law. `explain` says it in words that are as strong as the numbers.
Source: Bonett and Wright (2000), Psychometrika 65, 23-28.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from refusal_lens.core.ranks import why_no_ranks

PERMUTATIONS = 20_000
EXACT_UP_TO = 7


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's rho with its interval.

    Attributes:
        rho: In [-1, 1]; None where there are too few languages or most are tied.
        low: Lower bound of the 95 % interval; -1 where nothing is known.
        high: Upper bound; 1 where nothing is known.
        p_value: Permutation p value, None with rho.
        n: Languages.
        why: Why there is no rho; None where there is one.
    """

    rho: float | None
    low: float
    high: float
    p_value: float | None
    n: int
    why: str | None = None


def rank_correlation(
    x: Sequence[float], y: Sequence[float], *, seed: int = 0, permutations: int = PERMUTATIONS
) -> RankCorrelation:
    """Spearman's rank correlation with interval and permutation test.

    Args:
        x: One value per language; pairs with a NaN are left out.
        y: One value per language, same order.
        seed: Seed of the permutations.
        permutations: Draws of the permutation test, where it is not exact.

    Returns:
        The correlation and what it is worth.
    """
    both = np.array(
        [(a, b) for a, b in zip(x, y, strict=True) if not (math.isnan(a) or math.isnan(b))], dtype=np.float64
    ).reshape(-1, 2)
    n = len(both)
    why = why_no_ranks(*both.T.tolist())
    if why is not None:
        return RankCorrelation(None, -1.0, 1.0, None, n, why)
    first, second = _standard(rankdata(both[:, 0])), _standard(rankdata(both[:, 1]))
    rho = float(np.clip(first @ second, -1, 1))
    low, high = _interval(rho, n)
    return RankCorrelation(rho, low, high, _permutation_p(first, second, rho, seed, permutations), n)


def _standard(ranks: Float[np.ndarray, " language"]) -> Float[np.ndarray, " language"]:
    centred = ranks - ranks.mean()
    return centred / np.linalg.norm(centred)


def _interval(rho: float, n: int) -> tuple[float, float]:
    inside = float(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    if abs(rho) > 1 - 1e-9:  # a perfect ranking: take the nearest imperfect one, or the interval would have no width
        inside = math.copysign(1 - 6 / (n * (n * n - 1)), rho)
    half = NormalDist().inv_cdf(0.975) * math.sqrt((1 + inside**2 / 2) / (n - 3))
    low, high = math.tanh(math.atanh(inside) - half), math.tanh(math.atanh(inside) + half)
    return min(low, rho), max(high, rho)


def _permutation_p(
    first: Float[np.ndarray, " language"],
    second: Float[np.ndarray, " language"],
    rho: float,
    seed: int,
    permutations: int,
) -> float:
    n = len(first)
    if n <= EXACT_UP_TO:
        drawn = np.array([first[list(order)] @ second for order in itertools.permutations(range(n))])
        return float((np.abs(drawn) >= abs(rho) - 1e-12).mean())
    rng = np.random.default_rng(seed)
    drawn = rng.permuted(np.tile(first, (permutations, 1)), axis=1) @ second
    return float((1 + (np.abs(drawn) >= abs(rho) - 1e-12).sum()) / (1 + permutations))
