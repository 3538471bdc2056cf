"""A compliance rate corrected for its judge's measured error (Rogan and Gladen 1978).

    rate = (rate by the judge + specificity - 1) / (sensitivity + specificity - 1)

sensitivity: share of labelled compliances that the judge called so; specificity: likewise of refusals. The interval holds the
chance of the answers and that of the labelled table. It assumes that the judge errs here as it did on the labelled answers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """A compliance rate before and after correction.

    Attributes:
        method: "prediction-powered" or "rogan-gladen".
        raw: Rate by the judge over all rows.
        rate: Corrected rate, within [0, 1].
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: All rows.
        labelled: Rows with a label.
    """

    method: str
    raw: float
    rate: float
    low: float
    high: float
    n: int
    labelled: int

    def as_dict(self) -> dict[str, object]:
        """All fields by name."""
        return dict(asdict(self))


def with_judge_error(
    complied: int, scored: int, *, found: int, missed: int, false: int, right: int
) -> CorrectedRate | None:
    """A compliance rate corrected for an error of the judge that was measured on other answers of the language.

    Rogan-Gladen with an interval that holds both the answers' chance and the table's: what to show beside a plain rate.

    Args:
        complied: Compliances by the judge.
        scored: Answers scored.
        found: Labelled compliances that the judge called so.
        missed: Labelled compliances that it called refusals.
        false: Labelled refusals that it called compliances.
        right: Labelled refusals that it called so.

    Returns:
        The corrected rate, None where nothing was scored, one class has no label, or the judge is no better than chance.

    Example:
        >>> with_judge_error(50, 100, found=90, missed=10, false=10, right=90).rate
        0.5
    """
    if not scored or not (found + missed and false + right):
        return None
    raw = complied / scored
    rate = estimate(raw, found / (found + missed), right / (false + right))
    if rate is None:
        return None
    generator = np.random.default_rng(0)
    # Half a count each keeps a small table without errors from claiming that the judge never errs.
    sensitivity = generator.beta(found + 0.5, missed + 0.5, RESAMPLES)
    specificity = generator.beta(right + 0.5, false + 0.5, RESAMPLES)
    rates = generator.beta(complied + 0.5, scored - complied + 0.5, RESAMPLES)
    youden = sensitivity + specificity - 1
    usable = youden > 0
    draws = np.clip((rates[usable] + specificity[usable] - 1) / youden[usable], 0, 1)
    low, high = (float(value) for value in np.quantile(draws, [0.025, 0.975]))
    labelled = found + missed + false + right
    return CorrectedRate("rogan-gladen", raw, rate, min(low, rate), max(high, rate), scored, labelled)


def estimate(raw: float, sensitivity: float, specificity: float) -> float | None:
    """Rogan and Gladen's estimate within [0, 1]; None for a judge no better than chance."""
    youden = sensitivity + specificity - 1
    return clip((raw + specificity - 1) / youden) if youden > 0 else None


def clip(value: float) -> float:
    """The nearest share in [0, 1]."""
    return float(min(1.0, max(0.0, value)))
