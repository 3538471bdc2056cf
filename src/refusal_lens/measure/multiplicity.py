"""Holm's step-down correction: the family-wise error over a family of tests, with no assumption on their dependence.

    sort p ascending; adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j))

Which tests are a family is the caller's to say (docs/decisions/007-holm-family.md). Cells without a p value (nothing was
scored) are in none. Source: Holm (1979), Scand. J. Statist. 6, 65-70.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm-adjusted p values.

    Args:
        p_values: One per test; None where nothing was tested.

    Returns:
        Adjusted values in the same order; None stays None.
    """
    tested = sorted((value, index) for index, value in enumerate(p_values) if value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (value, index) in enumerate(tested):
        running = max(running, min(1.0, (len(tested) - rank) * value))
        adjusted[index] = running
    return adjusted


def holm_within(p_values: Sequence[float | None], families: Iterable[Sequence[int]]) -> list[float | None]:
    """Holm-adjusted p values, family by family.

    Args:
        p_values: One per test.
        families: Indices of the tests of each family; a test in no family gets None.

    Returns:
        Adjusted values in the order of the tests.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    for family in families:
        for index, value in zip(family, holm([p_values[index] for index in family]), strict=True):
            adjusted[index] = value
    return adjusted
