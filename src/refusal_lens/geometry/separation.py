"""How far harmful prompts stand out from harmless ones, language by language, along one shared direction.

    along       = x . r / |r|                                     projection of an activation on the shared direction
    auc         = P(along of a harmful prompt > along of a harmless one), ties half
    d_prime     = (mean harmful - mean harmless) / sqrt((var harmful + var harmless) / 2)
    margin      = (mean harmful - threshold) / s                  how far harmful prompts lie above the OTHERS' threshold
    silhouette  = mean silhouette width of the two classes, in the whole space or along the direction

`threshold` is the point that best splits the two classes of all OTHER languages together (balanced accuracy; a language
alone has its own), `s` the pooled within-class standard deviation of all. Two findings, not one: AUC and d' say whether a
language separates by itself, wherever it lies; the margin says whether its harmful prompts lie where the line that serves
the others would call them harmful. The direction must come from other prompts than those measured here.
Sources: Green and Swets (1966); Rousseeuw (1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64
from sklearn.metrics import roc_auc_score, silhouette_score

from refusal_lens.geometry.cosines import unit_rows
from refusal_lens.geometry.layer import LayerActivations


@dataclass(frozen=True, slots=True)
class Separation:
    """Separation of one language along the shared direction.

    Attributes:
        auc: In [0, 1]; 0.5 is none.
        d_prime: In standard deviations; inf where both classes have no spread but differ.
        margin: Of the harmful mean above the threshold that the other languages share, pooled standard deviations.
        silhouette: In the whole activation space, Euclidean; NaN where a class has fewer than 2 prompts.
        silhouette_along: Along the shared direction alone.
    """

    auc: float
    d_prime: float
    margin: float
    silhouette: float
    silhouette_along: float


def project(
    rows: Float[np.ndarray, "prompt d_model"], direction: Float[np.ndarray, " d_model"]
) -> Float64[np.ndarray, " prompt"]:
    """Projection of each row on a direction of any length."""
    return rows.astype(np.float64) @ unit_rows(direction)


def separate(layer: LayerActivations, direction: Float[np.ndarray, " d_model"]) -> dict[str, Separation]:
    """Separation of every language along a shared direction.

    Args:
        layer: Activations of one layer.
        direction: The shared direction, from other prompts; must not be zero.

    Returns:
        Separation by language.
    """
    projected = [(project(h, direction), project(b, direction)) for h, b in layer.pairs()]
    spread = pooled_spread(projected)
    found: dict[str, Separation] = {}
    for index, (language, (harmful, harmless)) in enumerate(zip(layer.languages, layer.pairs(), strict=True)):
        h, b = projected[index]
        others = projected[:index] + projected[index + 1 :]
        distance = float(h.mean()) - shared_threshold(others or projected)
        found[language] = Separation(
            auc=auc(h, b),
            d_prime=d_prime(h, b),
            margin=distance / spread if spread else math.copysign(math.inf, distance) if distance else 0.0,
            silhouette=silhouette(harmful, harmless),
            silhouette_along=silhouette(h[:, None], b[:, None]),
        )
    return found


def auc(positive: Float[np.ndarray, " p"], negative: Float[np.ndarray, " q"]) -> float:
    """Area under the ROC curve of values that should be higher for the positive class."""
    truth = np.repeat([1, 0], [len(positive), len(negative)])
    return float(roc_auc_score(truth, np.concatenate([positive, negative])))


def d_prime(positive: Float[np.ndarray, " p"], negative: Float[np.ndarray, " q"]) -> float:
    """Distance of two means in units of their root mean variance (n - 1 in the variance)."""
    distance = float(positive.mean() - negative.mean())
    if min(len(positive), len(negative)) < 2:
        return math.nan
    spread = math.sqrt((positive.var(ddof=1) + negative.var(ddof=1)) / 2)
    if spread:
        return distance / spread
    return math.copysign(math.inf, distance) if distance else 0.0


def silhouette(positive: Float[np.ndarray, "p d"], negative: Float[np.ndarray, "q d"]) -> float:
    """Mean silhouette width of two classes, Euclidean; NaN where a class has fewer than 2 rows."""
    if min(len(positive), len(negative)) < 2:
        return math.nan
    rows = np.concatenate([positive, negative]).astype(np.float64)
    return float(silhouette_score(rows, np.repeat([1, 0], [len(positive), len(negative)])))


def shared_threshold(projected: Sequence[tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]]) -> float:
    """Cut of the pooled projections with the best balanced accuracy; the middle of all equally good cuts."""
    harmful, harmless = (np.sort(np.concatenate([pair[side] for pair in projected])) for side in (0, 1))
    values = np.unique(np.concatenate([harmful, harmless]))
    if len(values) == 1:
        return float(values[0])
    cuts = (values[:-1] + values[1:]) / 2
    caught = 1 - np.searchsorted(harmful, cuts) / len(harmful)
    spared = np.searchsorted(harmless, cuts) / len(harmless)
    best = np.flatnonzero(caught + spared >= (caught + spared).max() - 1e-12)
    return float((cuts[best[0]] + cuts[best[-1]]) / 2)


def pooled_spread(projected: Sequence[tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]]) -> float:
    """Root of the mean within-class variance over all languages and classes."""
    variances = [float(part.var(ddof=1)) for pair in projected for part in pair if len(part) > 1]
    return math.sqrt(sum(variances) / len(variances)) if variances else 0.0


def answered_auc(along: Float[np.ndarray, " prompt"], refused: Bool[np.ndarray, " prompt"]) -> float | None:
    """Does the projection tell which harmful prompts are refused?

    Args:
        along: Projection of each harmful prompt on the shared direction.
        refused: Whether the prompt was refused (not answered) without intervention.

    Returns:
        AUC of the projection for "refused"; None when all were treated alike.
    """
    return None if refused.all() or not refused.any() else auc(along[refused], along[~refused])
