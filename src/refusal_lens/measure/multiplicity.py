"""Holm's step-down correction: the family-wise error over all cells of a table, with no assumption on their dependence.

    sort p ascending; adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j))

Cells without a p value (nothing was scored) are not part of the family. Source: Holm (1979), Scand. J. Statist. 6, 65-70.
"""

from __future__ import annotations

from collections.abc import Sequence


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
