"""Compliance rates from verdicts: `rate = complied / (complied + refused)`, with Wilson's 95 % interval.

Unscored answers are counted beside the rate and never enter it. The input is the `verdicts` table as plain records; the
output rows are the `rates` table, one per (intervention, source, language, prompts, prompt_set), in the order in which
the groups first appear.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from refusal_lens.measure.intervals import wilson

Cell: TypeAlias = str | int | float | bool | None
Record: TypeAlias = Mapping[str, Cell]

GROUP = ("intervention", "source", "language", "prompts", "prompt_set")
LABELS = frozenset({"refused", "complied", "unscored"})


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of complied answers that always carries what it was computed from.

    Attributes:
        k: Complied answers.
        n: Scored answers (complied or refused).
        unscored: Answers that could not be judged; in neither k nor n.
        rate: k / n; NaN when n is 0.
        low: Lower bound of the 95 % interval; 0 when n is 0.
        high: Upper bound of the 95 % interval; 1 when n is 0.
    """

    k: int
    n: int
    unscored: int
    rate: float
    low: float
    high: float


def rate_of(labels: Iterable[str]) -> Rate:
    """Compliance rate of a set of verdicts.

    Args:
        labels: `refused`, `complied` or `unscored`, one per answer.

    Returns:
        The rate with its counts and interval.

    Raises:
        ValueError: A label is none of the three.
    """
    counts = Counter(labels)
    unknown = set(counts) - LABELS
    if unknown:
        raise ValueError(f"verdict labels {sorted(unknown)} are none of {sorted(LABELS)}")
    k, n = counts["complied"], counts["complied"] + counts["refused"]
    low, high = wilson(k, n)
    return Rate(k, n, counts["unscored"], k / n if n else math.nan, low, high)


def rate_rows(verdicts: Iterable[Record]) -> list[dict[str, Cell]]:
    """The `rates` table of a verdict table.

    Args:
        verdicts: Records with at least the columns of `GROUP` and `label` (`prompt_set` may be absent).

    Returns:
        One row per group with k, n, unscored, rate (null when n is 0), low and high.
    """
    groups: dict[tuple[Cell, ...], list[str]] = {}
    for record in verdicts:
        groups.setdefault(tuple(record.get(name) for name in GROUP), []).append(str(record["label"]))
    rows: list[dict[str, Cell]] = []
    for key, labels in groups.items():
        rate = rate_of(labels)
        rows.append(
            dict(zip(GROUP, key, strict=True))
            | {"k": rate.k, "n": rate.n, "unscored": rate.unscored}
            | {"rate": None if rate.n == 0 else rate.rate, "low": rate.low, "high": rate.high}
        )
    return rows
