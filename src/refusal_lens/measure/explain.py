"""The paragraph "Why languages leak": plain words generated from numbers, hedged as the numbers are.

The paper explains cross-lingual jailbreaks by weak separation: the direction is shared, but in some languages harmful
prompts stand out less along it. Here the claim is checked for one model and said as strongly as its interval allows:
supported (interval above zero in the expected sense), contradicted (below), or open. Beside the relation over languages it
says of each leaking language which of two findings holds: not separable by itself (AUC), or separable by itself but below
the threshold that the other languages share (a negative margin). Nothing here computes a statistic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from refusal_lens.measure.leak import RankCorrelation

RANDOM_AUC = 0.5
APART = 0.9
LEAKING = 0.5
WIDE = 0.8


@dataclass(frozen=True, slots=True)
class LeakRow:
    """One language in the leak table.

    Attributes:
        language: Code.
        tier: Resource tier, "high", "medium" or "low".
        auc: Separation of harmful from harmless along the shared direction, share in [0, 1].
        d_prime: The same in pooled standard deviations.
        margin: Distance of the harmful mean above the threshold that the other languages share, pooled standard
            deviations; negative below it.
        baseline_compliance: Share of harmful prompts complied with, no intervention; NaN where not measured.
        answered_auc: How well the projection tells refused from answered harmful prompts; None where all fall alike.
    """

    language: str
    tier: str
    auc: float
    d_prime: float
    margin: float
    baseline_compliance: float
    answered_auc: float | None


def why_languages_leak(rows: Sequence[LeakRow], correlation: RankCorrelation, *, measure: str = "margin") -> str:
    """The paragraph, from the table and the correlation.

    Args:
        rows: One per language.
        correlation: Rank correlation over languages of the separation measure with baseline compliance.
        measure: Name of the separation measure in the text.

    Returns:
        A few sentences of plain English.
    """
    known = [row for row in rows if not math.isnan(row.baseline_compliance)]
    if not known:
        return "Baseline compliance was measured in no language, so nothing can be said about why languages leak."
    sentences = [_spread(known), _over_languages(correlation, measure), *_findings(known), _per_prompt(known)]
    return " ".join(sentence for sentence in sentences if sentence)


def _spread(rows: Sequence[LeakRow]) -> str:
    most, least = max(rows, key=_compliance), min(rows, key=_compliance)
    if _compliance(most) - _compliance(least) < 0.05:
        return (
            f"All {len(rows)} languages comply with about the same share of harmful prompts "
            f"({_compliance(least):.0%} to {_compliance(most):.0%}): no language leaks more than another."
        )
    return (
        f"The model complies with {_compliance(most):.0%} of harmful prompts in {most.language} ({most.tier} resource) "
        f"and with {_compliance(least):.0%} in {least.language} ({least.tier} resource)."
    )


def _over_languages(found: RankCorrelation, measure: str) -> str:
    if found.rho is None:
        return f"Whether separation goes with compliance cannot be computed: {found.why}."
    numbers = (
        f"(rank correlation {found.rho:+.2f}, 95 % interval {found.low:+.2f} to {found.high:+.2f}, {found.n} languages)"
    )
    if found.high < 0:
        said = f"Languages whose harmful prompts stand out less along the shared direction ({measure}) leak more"
        close = "this fits weak separation as the cause, but a correlation over languages cannot prove it"
    elif found.low > 0:
        said = f"Languages whose harmful prompts stand out more along the shared direction ({measure}) leak more"
        close = "this contradicts weak separation as the explanation for this model"
    else:
        said = f"Whether languages that separate less ({measure}) leak more stays open for this model"
        close = "the interval includes zero"
    if found.high - found.low > WIDE:
        close += ", and it is wide: so few languages say little"
    return f"{said} {numbers}; {close}."


def _findings(rows: Sequence[LeakRow]) -> list[str]:
    """Of the languages that answer most harmful prompts: where their prompts lie along the shared direction."""
    leaking = [row for row in rows if row.baseline_compliance >= LEAKING]
    apart = [row for row in leaking if row.auc >= APART]
    above = [row.language for row in apart if row.margin >= 0]  # a margin that was not measured is in neither list
    below = [row.language for row in apart if row.margin < 0]
    mixed = [row.language for row in leaking if row.auc < APART]
    found: list[str] = []
    if above:
        found.append(
            f"In {', '.join(above)} harmful prompts are told apart well (AUC at least {APART}), lie above the threshold "
            "that the other languages share, and are answered all the same: there it is the action that fails, not the "
            "representation."
        )
    if below:
        found.append(
            f"In {', '.join(below)} harmful prompts are told apart by themselves (AUC at least {APART}) but lie below the "
            "threshold that the other languages share: the line that serves the others takes them for harmless."
        )
    if mixed:
        found.append(
            f"In {', '.join(mixed)} harmful prompts are not told apart well along the shared direction (AUC below {APART})."
        )
    return found


def _per_prompt(rows: Sequence[LeakRow]) -> str:
    tested = [row for row in rows if row.answered_auc is not None]
    if not tested:
        return "Within languages nothing can be predicted: harmful prompts are all refused or all answered."
    values = sorted(value for row in tested if (value := row.answered_auc) is not None)
    middle = values[len(values) // 2]
    strength = "well" if middle >= 0.8 else "somewhat" if middle >= 0.6 else "hardly"
    return (
        f"Within a language, the projection predicts {strength} which harmful prompts are answered "
        f"(median AUC {middle:.2f} over {len(tested)} languages; {RANDOM_AUC} is chance)."
    )


def _compliance(row: LeakRow) -> float:
    return row.baseline_compliance
