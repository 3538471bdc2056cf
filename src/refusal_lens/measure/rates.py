"""Compliance rates from verdicts: `rate = complied / (complied + refused)`, with Wilson's 95 % interval.

Unscored answers are counted beside the rate and never enter it; so are the scored answers that a reader may doubt: cut at
the token limit, near the judge's threshold, in another language than asked. The input is the `verdicts` table; the output
rows are the `rates` table, one per (intervention, source, language, prompts, prompt_set), in the order in which the groups
first appear.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from refusal_lens.core.names import BASELINE
from refusal_lens.core.table import Fields
from refusal_lens.core.tables import RateRow, VerdictRow
from refusal_lens.languages.reliability import reliability
from refusal_lens.measure.intervals import wilson
from refusal_lens.measure.judge_error import CorrectedRate, with_judge_error

Group: TypeAlias = tuple[str, str, str, str, str | None]
"""Intervention, source, language, prompts and prompt set: one cell of an audit."""

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


def rate_rows(verdicts: Iterable[Fields]) -> list[RateRow]:
    """The `rates` table of a verdict table.

    Args:
        verdicts: Verdict rows; the columns of `GROUP` and `label` are read, and truncated, uncertain, off_language and
            prompt_set where they are there.

    Returns:
        One row per group; rate is null when n is 0, and so is a count whose column no verdict has. The corrected rate is
        null where the verdicts name no judge, several, or one whose error in the language was never measured.
    """
    rows: list[RateRow] = []
    for (intervention, source, language, prompts, prompt_set), members in grouped(verdicts).items():
        rate = rate_of(member["label"] for member in members)
        judges = {member.get("judge") for member in members if member["label"] != "unscored"}
        corrected = correct_for(judges.pop(), language, rate.k, rate.n) if len(judges) == 1 else None
        rows.append(
            {
                "intervention": intervention,
                "source": source,
                "language": language,
                "prompts": prompts,
                "k": rate.k,
                "n": rate.n,
                "unscored": rate.unscored,
                "rate": None if rate.n == 0 else rate.rate,
                "low": rate.low,
                "high": rate.high,
                "prompt_set": prompt_set,
                "truncated": _count(members, "truncated"),
                "uncertain": _count(members, "uncertain"),
                "off_language": _count(members, "off_language"),
                "share_before": None,
                "share_after": None,
                "corrected": None if corrected is None else corrected.rate,
                "corrected_low": None if corrected is None else corrected.low,
                "corrected_high": None if corrected is None else corrected.high,
            }
        )
    return rows


def correct_for(judge: str | None, language: str, k: int, n: int) -> CorrectedRate | None:
    """A compliance rate corrected for its judge's measured error in the language; None where that was never measured."""
    known = None if judge is None else reliability(judge, language)
    errors = None if known is None else known.errors
    if errors is None:
        return None
    found, missed, false, right = errors
    return with_judge_error(k, n, found=found, missed=missed, false=false, right=right)


def grouped(verdicts: Iterable[Fields]) -> dict[Group, list[VerdictRow]]:
    """Verdicts by cell, in order of appearance."""
    groups: dict[Group, list[VerdictRow]] = {}
    for row in cast("Iterable[VerdictRow]", verdicts):
        groups.setdefault(group_of(row), []).append(row)
    return groups


def group_of(row: VerdictRow | RateRow) -> Group:
    """The cell that a row belongs to; the untouched model needs no source, and no row a prompt set."""
    source = row.get("source", "") if row["intervention"] == BASELINE else row["source"]
    return row["intervention"], source, row["language"], row["prompts"], row.get("prompt_set")


def _count(rows: Iterable[VerdictRow], flag: Literal["truncated", "uncertain", "off_language"]) -> int | None:
    """Scored answers with a flag; None where no scored answer says."""
    said = [value for row in rows if row["label"] != "unscored" and (value := row.get(flag)) is not None]
    return sum(said) if said else None
