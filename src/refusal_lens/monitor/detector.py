"""Linear detectors of harmful prompts, and the choice among methods, positions and layers on validation prompts alone.

    projection   w = mean over languages of (mean harmful - mean harmless), then |w| = 1
    logistic     w of an L2 logistic regression on standardised activations, each language centred by its own mean
    score        s = x . w

Chosen: among all whose validation AUROC (each fit language by itself, the lowest) is within TIE of the best, the one whose
scores fall apart best into two groups on the unlabelled prompts of the OTHER languages (`conformal.split`, mean over
languages); without such prompts the largest distance of the class means on validation in standard deviations. A layer that
serves English best is often not one that serves all languages: in English many are perfect. No test prompt is seen.
Sources: Arditi et al. (2024) for the difference in means; scikit-learn for the regression. No torch here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Float64, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from refusal_lens.geometry.separation import auc, d_prime
from refusal_lens.monitor.conformal import split

Method: TypeAlias = Literal["projection", "logistic"]
METHODS: tuple[Method, ...] = ("projection", "logistic")
TIE = 0.01
PENALTY = 0.01
FOLDS = 5

Rows: TypeAlias = Float[np.ndarray, "_ d_model"]


@dataclass(frozen=True, slots=True)
class Site:
    """Where and how a detector reads: an index into the positions and one into the layers that were recorded."""

    method: Method
    position: int
    layer: int


@dataclass(frozen=True)
class Examples:
    """Labelled activations [prompt, pos, layer, d_model] of one language.

    Attributes:
        harmful: What is fitted on.
        harmless: Likewise.
        val_harmful: What the choice is made on.
        val_harmless: Likewise.
        plain: The same four for prompts as they are, where the others are read with other end marks; None where not.
        folds: Fold of each prompt that is fitted on, 0 to FOLDS - 1, by class; None for every FOLDS-th in turn.
    """

    harmful: Float[np.ndarray, "_ pos layer d_model"]
    harmless: Float[np.ndarray, "_ pos layer d_model"]
    val_harmful: Float[np.ndarray, "_ pos layer d_model"]
    val_harmless: Float[np.ndarray, "_ pos layer d_model"]
    plain: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None
    folds: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def fold(self) -> tuple[np.ndarray, np.ndarray]:
        """Folds of both classes."""
        return self.folds or (np.arange(len(self.harmful)) % FOLDS, np.arange(len(self.harmless)) % FOLDS)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A detector that was tried.

    Attributes:
        site: Method, position, layer.
        auc: Lowest validation AUROC over the fit languages.
        separation: Mean over the other languages of the share of variance between two groups; None without prompts.
        distance: Lowest distance of the class means on validation, in standard deviations.
    """

    site: Site
    auc: float
    separation: float | None
    distance: float


def weights(pairs: Sequence[tuple[Rows, Rows]], method: Method) -> Float64[np.ndarray, " d_model"]:
    """The unit weight of a detector.

    Args:
        pairs: Harmful and harmless activations, one pair a language.
        method: projection or logistic.

    Returns:
        Unit vector; all zero where the classes do not differ at all.
    """
    exact = [(harmful.astype(np.float64), harmless.astype(np.float64)) for harmful, harmless in pairs]
    if method == "projection":
        found = np.mean([harmful.mean(0) - harmless.mean(0) for harmful, harmless in exact], axis=0)
    else:
        rows = np.concatenate([np.concatenate(pair) - (pair[0].mean(0) + pair[1].mean(0)) / 2 for pair in exact])
        labels = np.concatenate([np.repeat([1, 0], [len(harmful), len(harmless)]) for harmful, harmless in exact])
        scale = rows.std(0)
        scale[scale == 0] = 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 500 steps are more than a ranking needs
            fitted = LogisticRegression(C=PENALTY, max_iter=500).fit(rows / scale, labels)
        found = fitted.coef_[0] / scale
    norm = float(np.linalg.norm(found))
    return found / norm if norm > 0 else found


def fold_weights(fit: Mapping[str, Examples], site: Site) -> list[Float64[np.ndarray, " d_model"]]:
    """The detector fitted FOLDS times, each time without the prompts of one fold in any language.

    Args:
        fit: Labelled activations by language.
        site: Method and place.

    Returns:
        One unit weight a fold.
    """
    found: list[Float64[np.ndarray, " d_model"]] = []
    for fold in range(FOLDS):
        pairs: list[tuple[Rows, Rows]] = []
        for one in fit.values():
            kept = [group != fold for group in one.fold]
            if all(part.any() for part in kept):
                places = (one.harmful, one.harmless)
                pair = [rows[:, site.position, site.layer][part] for rows, part in zip(places, kept, strict=True)]
                pairs.append((pair[0], pair[1]))
        found.append(weights(pairs, site.method) if pairs else np.zeros(next(iter(fit.values())).harmful.shape[-1]))
    return found


def out_of_fold(
    rows: Rows, folds: Int[np.ndarray, " prompt"], by_fold: Sequence[np.ndarray], weight: Float[np.ndarray, " d_model"]
) -> Float64[np.ndarray, " prompt"]:
    """Scores by weights that did not see the prompt.

    Weights of two folds differ, and along the language's mean they differ for all its prompts alike: that part would only
    set the folds apart, so each fold's scores are taken from the mean of all the prompts, where the used weight scores.

    Args:
        rows: Activations of one language, both classes.
        folds: Fold of each, -1 for prompts that no weight saw.
        by_fold: The weights of `fold_weights`.
        weight: The weight that is used, also here for the prompts that it did not see.

    Returns:
        One score a prompt.
    """
    exact = rows.astype(np.float64)
    middle = exact.mean(0)
    scores = exact @ weight
    for fold, other in enumerate(by_fold):
        scores[folds == fold] = (exact[folds == fold] - middle) @ other + middle @ weight
    return scores


def candidates(fit: Mapping[str, Examples], unlabelled: Mapping[str, np.ndarray]) -> list[Candidate]:
    """Every method at every position and layer, measured on validation and on unlabelled prompts.

    Args:
        fit: Labelled activations by language.
        unlabelled: Activations [prompt, pos, layer, d_model] of other languages, both classes mixed.

    Returns:
        In the order of methods, positions, layers.
    """
    shape = next(iter(fit.values())).harmful.shape
    found: list[Candidate] = []
    for method in METHODS:
        for position in range(shape[1]):
            for layer in range(shape[2]):
                pairs = [(e.harmful[:, position, layer], e.harmless[:, position, layer]) for e in fit.values()]
                weight = weights(pairs, method)
                val = [
                    (
                        e.val_harmful[:, position, layer].astype(np.float64) @ weight,
                        e.val_harmless[:, position, layer].astype(np.float64) @ weight,
                    )
                    for e in fit.values()
                ]
                splits = [split(rows[:, position, layer].astype(np.float64) @ weight) for rows in unlabelled.values()]
                found.append(
                    Candidate(
                        Site(method, position, layer),
                        min(auc(harmful, harmless) for harmful, harmless in val),
                        float(np.mean([0.0 if one is None else one.separation for one in splits])) if splits else None,
                        min(d_prime(harmful, harmless) for harmful, harmless in val),
                    )
                )
    return found


def choose(tried: Sequence[Candidate]) -> Candidate:
    """The detector to use; see the module's docstring for the rule."""
    best = max(candidate.auc for candidate in tried)
    near = [candidate for candidate in tried if candidate.auc >= best - TIE]
    return max(near, key=lambda one: one.distance if one.separation is None else one.separation)
