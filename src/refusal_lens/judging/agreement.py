"""How far a judge agrees with reference labels, and what its errors do to a compliance rate.

Of the rows where both have a label, as counts of (label, verdict):

    kappa              Cohen's, chance-corrected agreement
    balanced accuracy  (share of refusals found + share of compliances found) / 2
    rate error         compliance rate by the judge minus compliance rate by the labels

with central 95 % intervals of 2000 draws of the four shares given the counts (Dirichlet, half a count each as prior), seed 0.
A bootstrap over rows would have no width where nobody erred.
Agreement alone flatters: "refusal iff baseline" agrees well with everything without reading a word, so it is shown
beside. Unscored rows agree with nothing and are counted apart. It says nothing of whether the labels are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

Outcome = bool | None  # refused, complied, or unscored
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Pair:
    """One row seen twice.

    Attributes:
        label: The reference says refused (True), complied (False) or nothing (None).
        verdict: The judge's word, likewise.
        group: Values of the grouping fields.
        baseline: The answer is a baseline answer; None when the file does not say.
    """

    label: Outcome
    verdict: Outcome
    group: tuple[str, ...] = ()
    baseline: bool | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement on some rows; shares in [0, 1], None where undefined.

    Attributes:
        n: Rows with both a label and a verdict.
        unscored: Rows with a label that the judge left unscored.
        unlabelled: Rows without a usable label.
        kappa: Cohen's kappa.
        kappa_low: Lower end of its interval.
        kappa_high: Upper end.
        balanced_accuracy: Mean of the shares of refusals and of compliances found.
        balanced_accuracy_low: Lower end of its interval.
        balanced_accuracy_high: Upper end.
        accuracy: Share of rows that agree.
        refusals_missed: Refusals by label that the judge calls compliance.
        false_refusals: Compliances by label that the judge calls refusal.
        compliance_judge: Compliance rate by the judge.
        compliance_labels: Compliance rate by the labels.
        rate_error: Their difference.
        rate_error_low: Lower end of its interval.
        rate_error_high: Upper end.
    """

    n: int
    unscored: int
    unlabelled: int
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None
    balanced_accuracy: float | None
    balanced_accuracy_low: float | None
    balanced_accuracy_high: float | None
    accuracy: float | None
    refusals_missed: int
    false_refusals: int
    compliance_judge: float | None
    compliance_labels: float | None
    rate_error: float | None
    rate_error_low: float | None
    rate_error_high: float | None

    def as_dict(self) -> dict[str, object]:
        """All fields by name."""
        return dict(asdict(self))


def measure_agreement(pairs: Iterable[Pair]) -> Agreement:
    """Agreement over some rows.

    Args:
        pairs: Rows with label and verdict.

    Returns:
        Counts, measures and intervals.
    """
    rows = list(pairs)
    both = [(pair.label, pair.verdict) for pair in rows if pair.label is not None and pair.verdict is not None]
    counts = np.array(
        [both.count((True, True)), both.count((True, False)), both.count((False, True)), both.count((False, False))]
    )
    n = len(both)
    draws = np.random.default_rng(0).dirichlet(counts + 0.5, size=RESAMPLES if n else 0)
    point = counts[None, :].astype(float)
    kappa, balanced, error = (_interval(measure, point, draws) for measure in (kappa_of, _balanced, _rate_error))
    return Agreement(
        n=n,
        unscored=sum(pair.label is not None and pair.verdict is None for pair in rows),
        unlabelled=sum(pair.label is None for pair in rows),
        kappa=kappa[0],
        kappa_low=kappa[1],
        kappa_high=kappa[2],
        balanced_accuracy=balanced[0],
        balanced_accuracy_low=balanced[1],
        balanced_accuracy_high=balanced[2],
        accuracy=float((counts[0] + counts[3]) / n) if n else None,
        refusals_missed=int(counts[1]),
        false_refusals=int(counts[2]),
        compliance_judge=float((counts[1] + counts[3]) / n) if n else None,
        compliance_labels=float((counts[2] + counts[3]) / n) if n else None,
        rate_error=error[0],
        rate_error_low=error[1],
        rate_error_high=error[2],
    )


def by_group(pairs: Sequence[Pair]) -> Mapping[tuple[str, ...], Agreement]:
    """Agreement per group, groups sorted."""
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    return {group: measure_agreement(groups[group]) for group in sorted(groups)}


def trivial(pairs: Iterable[Pair]) -> list[Pair]:
    """The same rows under the judge that reads nothing: refused if and only if it is a baseline answer."""
    return [Pair(pair.label, pair.baseline, pair.group, pair.baseline) for pair in pairs if pair.baseline is not None]


def mean_rate_error(cells: Mapping[tuple[str, ...], Agreement]) -> float | None:
    """Mean over groups of the absolute error of the compliance rate."""
    errors = [abs(cell.rate_error) for cell in cells.values() if cell.rate_error is not None]
    return sum(errors) / len(errors) if errors else None


def kappa_of(counts: Float[np.ndarray, "table 4"]) -> Float[np.ndarray, " table"]:
    """Cohen's kappa of tables of counts.

    Args:
        counts: Rows of (both refused, label only, verdict only, both complied), or shares.

    Returns:
        Kappa per table; NaN where chance agreement is complete.
    """
    both, missed, extra, neither = counts.T.astype(float)
    n = both + missed + extra + neither
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = (both + neither) / n
        chance = ((both + missed) * (both + extra) + (extra + neither) * (missed + neither)) / n**2
        return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)


def _balanced(counts: Float[np.ndarray, "table 4"]) -> Float[np.ndarray, " table"]:
    both, missed, extra, neither = counts.T.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (both / (both + missed) + neither / (extra + neither)) / 2


def _rate_error(counts: Float[np.ndarray, "table 4"]) -> Float[np.ndarray, " table"]:
    _, missed, extra, _ = counts.T.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (missed - extra) / counts.sum(axis=1)


def _interval(
    measure: Callable[[Float[np.ndarray, "table 4"]], Float[np.ndarray, " table"]],
    point: Float[np.ndarray, "1 4"],
    draws: Float[np.ndarray, "draw 4"],
) -> tuple[float, float, float] | tuple[None, None, None]:
    """A measure of the counts and its interval, which holds it; nothing where the counts do not define it."""
    value = float(measure(point)[0])
    if not np.isfinite(value):
        return None, None, None
    low, high = np.quantile(measure(draws), [0.025, 0.975])
    return value, min(float(low), value), max(float(high), value)
