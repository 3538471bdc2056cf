"""From activations to a detector and its card: choose, scale, calibrate every language. Numbers in, numbers out; no torch.

1. `detector.choose` picks method, position and layer on validation prompts; its weight is fitted on the train prompts.
2. A fit language is calibrated on scores of prompts that the weight did not see: validation, and train out of fold.
3. Another language is calibrated on its unlabelled prompts where these fall into two groups, else the fit languages'
   threshold is moved to their mean. The translation of a train prompt is as little unseen as the prompt itself: out of fold too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float64, Int
from sklearn.linear_model import LogisticRegression

from refusal_lens.errors import NoValidDirection
from refusal_lens.monitor.card import OTHERS, Calibration, Card
from refusal_lens.monitor.conformal import FEWEST, conformal, moved, split, stand_in
from refusal_lens.monitor.detector import Candidate, Examples, candidates, choose, fold_weights, out_of_fold, weights

ALIKE = 0.75
"""Distance of two groups, as a share of the one before, below which nothing is promised: after a long harmless text prompts fall
into two groups of their own, and the lower one holds harmful ones too."""
DECILES = tuple(share / 10 for share in range(1, 10))


@dataclass(frozen=True)
class Fitted:
    """A detector with its calibrations; positions and layers are indices into what was recorded."""

    weight: Float64[np.ndarray, " d_model"]
    chosen: Candidate
    tried: int
    slope: float
    intercept: float
    calibrations: Mapping[str, Calibration]


@dataclass(frozen=True)
class Unlabelled:
    """Prompts of a language whose labels are not read.

    Attributes:
        rows: Activations, both classes mixed.
        folds: Fold of the fit prompt that each is a translation of; -1 where there is none.
    """

    rows: Float[np.ndarray, "prompt pos layer d_model"]
    folds: Int[np.ndarray, " prompt"]


def fit(fit_on: Mapping[str, Examples], unlabelled: Mapping[str, Unlabelled], *, miss: float) -> Fitted:
    """Fit a monitor.

    Args:
        fit_on: Labelled activations by language.
        unlabelled: Prompts of other languages.
        miss: Target miss rate.

    Returns:
        The detector.

    Raises:
        NoValidDirection: No detector tells the classes apart on validation.
    """
    tried = candidates(fit_on, {code: one.rows for code, one in unlabelled.items()})
    chosen = choose(tried)
    at = chosen.site
    weight = weights(
        [(e.harmful[:, at.position, at.layer], e.harmless[:, at.position, at.layer]) for e in fit_on.values()],
        at.method,
    )
    by_fold = fold_weights(fit_on, at)
    held = {code: _held_out(examples, chosen, weight, by_fold) for code, examples in fit_on.items()}
    pooled = np.concatenate([one[0] for one in held.values()]), np.concatenate([one[1] for one in held.values()])
    scales = {code: _scale(*one) for code, one in {**held, OTHERS: pooled}.items()}
    if any(half <= 0 for _, half in scales.values()) or chosen.auc <= 0.5:
        raise NoValidDirection(
            f"no detector tells harmful from harmless prompts on validation (best AUROC {chosen.auc:.2f} of {len(tried)} "
            "tried): this model does not represent the difference at the places that are read, or there are too few prompts"
        )
    z = [
        np.concatenate([(part - scales[code][0]) / scales[code][1] for code, part in _of(held, side)])
        for side in (0, 1)
    ]
    platt = LogisticRegression(C=1.0).fit(np.concatenate(z)[:, None], np.repeat([1, 0], [len(z[0]), len(z[1])]))
    slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    made = _Making(slope, intercept, miss)
    calibrations = {code: made.labelled(*held[code], *scales[code]) for code in held}
    others = made.labelled(*pooled, *scales[OTHERS])
    calibrations[OTHERS] = made.borrowed(others)
    for code, one in unlabelled.items():
        scores = out_of_fold(one.rows[:, at.position, at.layer], one.folds, by_fold, weight)
        calibrations[code] = made.unlabelled(scores) or made.centred(calibrations[OTHERS], scores)
    return Fitted(weight, chosen, len(tried), slope, intercept, calibrations)


def with_labels(
    card: Card, language: str, harmful: Float[np.ndarray, " prompt"], *, start: Calibration | None = None
) -> Calibration:
    """A language's calibration after some of its harmful prompts were labelled.

    Args:
        card: The monitor's card.
        language: The language.
        harmful: Raw scores of the labelled prompts.
        start: What stood before; the card's own by default.

    Returns:
        The new calibration; its scale is the old one.
    """
    before = start or card.calibration(language)
    z = before.standard(harmful)
    old = (np.log(before.threshold / (1 - before.threshold)) - card.intercept) / card.slope
    new = moved(float(old), 1.0, z, card.target_miss)
    enough = card.target_miss * (len(harmful) + 1) >= 1
    promised = conformal(z, card.target_miss).promised if enough else None
    threshold = float(card.probability(np.asarray([before.middle + before.half * new]), before)[0])
    how = "labels" if enough else "few labels"
    return Calibration(
        how, before.middle, before.half, threshold, promised, len(harmful), before.separation, before.harmless
    )


def with_traffic(card: Card, language: str, scores: Float[np.ndarray, " prompt"]) -> Calibration | None:
    """A language's calibration from prompts as they come, harmful and harmless mixed; no label is read.

    Args:
        card: The monitor's card.
        language: Whose calibration they replace; nothing is promised where its groups lay much farther apart (ALIKE).
        scores: Raw scores of the prompts.

    Returns:
        The calibration; None where they do not fall into two groups.
    """
    found = _Making(card.slope, card.intercept, card.target_miss).unlabelled(scores)
    if found is None or found.half >= ALIKE * card.calibration(language).half:
        return found
    return replace(found, promised=None)


@dataclass(frozen=True, slots=True)
class _Making:
    slope: float
    intercept: float
    miss: float

    def labelled(self, harmful: np.ndarray, harmless: np.ndarray, middle: float, half: float) -> Calibration:
        quantile = conformal((harmful - middle) / half, self.miss)
        deciles = _deciles((harmless - middle) / half)
        return Calibration(
            "labels", middle, half, self._p(quantile.threshold), quantile.promised, quantile.n, harmless=deciles
        )

    def unlabelled(self, scores: np.ndarray) -> Calibration | None:
        found = split(scores)
        if found is None or not found.believed:
            return None
        middle, half = (found.low + found.high) / 2, (found.high - found.low) / 2
        z = (scores - middle) / half
        quantile = stand_in(z, (found.cut - middle) / half, self.miss)
        promised = quantile.promised if found.clear else None
        return Calibration(
            "unlabelled", middle, half, self._p(quantile.threshold), promised, len(scores), found.separation,
            _deciles(z[scores < found.cut]),
        )  # fmt: skip

    def borrowed(self, lender: Calibration) -> Calibration:
        return Calibration("borrowed", lender.middle, lender.half, lender.threshold, None, 0)

    def centred(self, lender: Calibration, scores: np.ndarray) -> Calibration:
        """The lender's threshold about the mean of unlabelled prompts, as if half of them were harmful."""
        found = split(scores)
        if len(scores) < FEWEST:
            return self.borrowed(lender)
        separation = None if found is None else found.separation
        return Calibration(
            "centred", float(scores.mean()), lender.half, lender.threshold, None, len(scores), separation
        )

    def _p(self, z: float) -> float:
        return float(1 / (1 + np.exp(-(self.slope * z + self.intercept))))


def _held_out(
    examples: Examples, chosen: Candidate, weight: np.ndarray, by_fold: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of both classes by weights that did not see the prompt: train out of fold, and validation."""
    at = chosen.site
    parts = examples.plain or (examples.harmful, examples.harmless, examples.val_harmful, examples.val_harmless)
    placed = [part[:, at.position, at.layer] for part in parts]
    folds = [*examples.fold, *(np.full(len(part), -1) for part in placed[2:])]
    scores = out_of_fold(np.concatenate(placed), np.concatenate(folds), by_fold, weight)
    train_harmful, train_harmless, val_harmful, val_harmless = np.split(
        scores, np.cumsum([len(one) for one in placed])[:3]
    )
    return np.concatenate([train_harmful, val_harmful]), np.concatenate([train_harmless, val_harmless])


def _scale(harmful: np.ndarray, harmless: np.ndarray) -> tuple[float, float]:
    high, low = float(harmful.mean()), float(harmless.mean())
    return (high + low) / 2, (high - low) / 2


def _of(held: Mapping[str, tuple[np.ndarray, np.ndarray]], side: int) -> list[tuple[str, np.ndarray]]:
    return [(code, pair[side]) for code, pair in held.items()]


def _deciles(z: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(z, DECILES)) if len(z) else ()
