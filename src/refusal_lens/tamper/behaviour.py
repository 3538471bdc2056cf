"""Where a change of weights changed behaviour: the first answer token's refusal score, base against checkpoint, by language.

The refusal score is the log-odds of the base's own refusal tokens of that language (`directions`), on the same harmful
prompts in both; the change is the mean over prompts with a Student interval of the paired differences. It is no rate of
refusal: that is what `audit --baseline-only` and `compare` measure, from whole answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t as student
from typing_extensions import TypedDict

from refusal_lens.directions import discover_refusal_tokens, refusal_scores
from refusal_lens.judging import get_judge
from refusal_lens.model import LensModel
from refusal_lens.types import Prompt


class BehaviourRow(TypedDict):
    """The change in one language; scores in nats, null where the base shows no refusal tokens."""

    language: str
    n: int
    base: float | None
    checkpoint: float | None
    change: float | None
    low: float | None
    high: float | None


def refusal_tokens(
    model: LensModel, harmful: Sequence[Prompt], harmless: Sequence[Prompt], language: str
) -> tuple[int, ...]:
    """The tokens that open the base's refusals in a language; none where it does not refuse."""
    found = discover_refusal_tokens(model, harmful, harmless, language=language, judge=get_judge("native"))
    return tuple(found.ids)


def scores(
    model: LensModel, prompts: Mapping[str, Sequence[Prompt]], tokens: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Refusal scores of the languages that have refusal tokens."""
    return {code: refusal_scores(model, prompts[code], list(ids)) for code, ids in tokens.items() if ids}


def behaviour_rows(
    counts: Mapping[str, int], base: Mapping[str, np.ndarray], checkpoint: Mapping[str, np.ndarray]
) -> list[BehaviourRow]:
    """One row a language, worst loss of refusal first."""
    rows: list[BehaviourRow] = []
    for code, n in counts.items():
        if code not in base:
            rows.append(
                {"language": code, "n": n, "base": None, "checkpoint": None, "change": None, "low": None, "high": None}
            )
            continue
        difference = np.asarray(checkpoint[code], np.float64) - base[code]
        change = float(difference.mean())
        half = float("nan")
        if n > 1:
            half = float(student.ppf(0.975, n - 1) * difference.std(ddof=1) / np.sqrt(n))
        low, high = (None, None) if np.isnan(half) else (change - half, change + half)
        before, after = float(np.mean(base[code])), float(np.mean(checkpoint[code]))
        rows.append(
            {"language": code, "n": n, "base": before, "checkpoint": after, "change": change, "low": low, "high": high}
        )
    return sorted(rows, key=lambda row: row["change"] if row["change"] is not None else float("inf"))
