"""Whether rows stand beside their originals, judged by length alone.

A translation is long where its original is long. With x, y the logarithms of the lengths (in characters) of originals
and translations at the same rows, Pearson's r(x, y) is 0.75 to 0.98 in every published file that is parallel, 0.01 and
0.03 in the two that are not, and about 0 when one side is moved by a row. So r below 0.4 over a whole file means: not
the same rows. Inside a file, a stretch of rows is displaced when r is low as it stands and high after moving it.

Says nothing about single swapped rows, and nothing about files of fewer than 20 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from refusal_lens.types import JsonValue

MIN_ROWS = 20
PARALLEL = 0.4

_WINDOW = 24
_LOW = 0.35
_HIGH = 0.75
_SHIFTS = (-3, -2, -1, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Displaced:
    """A stretch of rows that stand beside the wrong originals.

    Attributes:
        first: First row of the stretch, from 1.
        last: Last row of the stretch, from 1.
        shift: Where the right original stands: row + shift.
    """

    first: int
    last: int
    shift: int


def length_correlation(texts: Sequence[JsonValue], originals: Sequence[str | None]) -> float | None:
    """Pearson's r of the logarithms of lengths.

    Args:
        texts: Translations; what is no text is left out.
        originals: Originals at the same rows; None is left out.

    Returns:
        r in [-1, 1], or None when there are too few pairs or all are equally long.
    """
    x, y = _log_lengths(texts, originals)
    known = ~(np.isnan(x) | np.isnan(y))
    return _correlation(x[known], y[known]) if known.sum() >= MIN_ROWS else None


def lengths_agree(texts: Sequence[JsonValue], originals: Sequence[str | None]) -> bool:
    """Whether the translations can be those of the originals at the same rows; true where it cannot be told."""
    r = length_correlation(texts, originals)
    return r is None or r >= PARALLEL


def displaced_rows(texts: Sequence[JsonValue], originals: Sequence[str | None]) -> list[Displaced]:
    """Find stretches of rows that would fit their originals better if moved.

    Args:
        texts: Translations.
        originals: Originals at the same rows.

    Returns:
        Stretches in order; their ends are exact to some rows only.
    """
    x, y = _log_lengths(texts, originals)
    x, y = np.nan_to_num(x, nan=float(np.nanmean(x)) if len(x) else 0.0), np.nan_to_num(y, nan=0.0)
    rows = len(y)
    by_row = np.zeros(rows, dtype=int)
    for start in range(rows - _WINDOW + 1):
        stop = start + _WINDOW
        here = _correlation(x[start:stop], y[start:stop])
        if here is None or here >= _LOW:
            continue
        moved = {
            k: _correlation(x[start + k : stop + k], y[start:stop])
            for k in _SHIFTS
            if start + k >= 0 and stop + k <= rows
        }
        best = max(moved, key=lambda k: moved[k] or -1.0, default=0)
        if best and (moved[best] or -1.0) >= _HIGH:
            by_row[start:stop] = best
    return _stretches(by_row.tolist())


def _stretches(shifts: list[int]) -> list[Displaced]:
    found: list[Displaced] = []
    for row, shift in enumerate(shifts, start=1):
        if not shift:
            continue
        if found and found[-1].last == row - 1 and found[-1].shift == shift:
            found[-1] = Displaced(found[-1].first, row, shift)
        else:
            found.append(Displaced(row, row, shift))
    return found


def _log_lengths(
    texts: Sequence[JsonValue], originals: Sequence[str | None]
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    lengths = [
        [len(text) if isinstance(text, str) and text else np.nan for text in column] for column in (originals, texts)
    ]
    x, y = np.log(np.array(lengths, dtype=np.float64))
    return x, y


def _correlation(x: Float[np.ndarray, " row"], y: Float[np.ndarray, " row"]) -> float | None:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])
