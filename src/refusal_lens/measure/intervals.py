"""Wilson's score interval of a proportion.

    centre = (k + z^2/2) / (n + z^2),   half = z/(n + z^2) * sqrt(k(n - k)/n + z^2/4)

Unlike the normal interval it stays inside [0, 1] and keeps a width at k = 0 and k = n, where refusal rates live.
It treats answers as independent and knows nothing about pairing: differences between two interventions on the same
prompts belong to `paired`. Source: Wilson (1927), JASA 22, 209-212.
"""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(k: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson interval of k successes in n trials.

    Args:
        k: Successes, 0 <= k <= n.
        n: Trials; 0 gives the interval that says nothing, (0, 1).
        confidence: Two-sided coverage, in (0, 1).

    Returns:
        Lower and upper bound, shares in [0, 1].

    Raises:
        ValueError: k is not in 0..n, or confidence not in (0, 1).
    """
    if not 0 <= k <= n:
        raise ValueError(f"k = {k} successes out of n = {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))
