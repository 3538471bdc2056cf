"""When ranks over languages say nothing: one rule for every rank correlation that the product states."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MIN_LANGUAGES = 6


def why_no_ranks(x: Sequence[float], y: Sequence[float]) -> str | None:
    """Why no rank correlation over languages is stated: too few of them, or more than half tied in one of the values.

    Args:
        x: One value per language; pairs with a NaN count for nothing.
        y: One value per language, same order.

    Returns:
        The reason; None where a rank correlation may be stated.

    Example:
        >>> why_no_ranks([1.0, 2.0], [0.1, 0.2])
        '2 languages are too few for a rank correlation: at least 6 are needed'
    """
    both = [(a, b) for a, b in zip(x, y, strict=True) if not (math.isnan(a) or math.isnan(b))]
    n = len(both)
    if n < MIN_LANGUAGES:
        are = "language is" if n == 1 else "languages are"
        return f"{n} {are} too few for a rank correlation: at least {MIN_LANGUAGES} are needed"
    # rounded: shares that are equal as fractions may differ in their last digit
    tied = max(int(np.unique(np.round(side, 9), return_counts=True)[1].max()) for side in zip(*both, strict=True))
    return f"{tied} of {n} languages are tied: ranks among them say nothing" if 2 * tied > n else None
