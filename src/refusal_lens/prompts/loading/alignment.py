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
    """Pearson's r of the logarithms of lengths."""
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
    rows = len(originals)
    if rows < _WINDOW or len(texts) != rows:
        return []
    x, y = (np.where(np.isnan(side), 0.0, side) for side in _log_lengths(texts, originals))
    here = _windowed(x, y, 0)
    moved = np.stack([_windowed(x, y, shift) for shift in _SHIFTS])
    best = moved.argmax(axis=0)
    by_row = np.zeros(rows, dtype=int)
    for start in np.flatnonzero((here < _LOW) & (moved.max(axis=0) >= _HIGH)).tolist():
        by_row[start : start + _WINDOW] = _SHIFTS[best[start]]
    return _stretches(by_row.tolist())


def _windowed(x: Float[np.ndarray, " row"], y: Float[np.ndarray, " row"], shift: int) -> Float[np.ndarray, " window"]:
    """Give r of every window of y with x moved by `shift` rows; -1 where that leaves the file, or nothing varies."""
    windows = np.lib.stride_tricks.sliding_window_view
    starts = np.arange(len(y) - _WINDOW + 1)
    inside = (starts + shift >= 0) & (starts + shift + _WINDOW <= len(x))
    a = windows(x, _WINDOW)[np.clip(starts + shift, 0, len(x) - _WINDOW)]
    b = windows(y, _WINDOW)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    r = np.divide((a * b).sum(axis=1), norm, out=np.full(len(starts), -1.0), where=norm > 1e-12)
    return np.where(inside, r, -1.0)


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
