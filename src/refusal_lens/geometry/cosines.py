"""Cosines between the languages' directions at one layer, with an interval and a null.

    r_l        = mean(harmful_l) - mean(harmless_l)                        per language l
    cosine     = r_a . r_b / (|r_a| |r_b|)
    interval   : prompts drawn with replacement within each class, the same draw in all languages (prompts are parallel);
                 the quantiles are moved so that their median is the measured cosine, because a resample holds the
                 prompts' noise twice and its cosines are all a little off to one side
    null       : balanced label shuffles. Half of each class becomes "harmful", the other half "harmless", the same halves
                 in all languages: pseudo-directions that carry the prompts' shared content but no harm

Balance matters: an unbalanced shuffle leaves a little of the harm axis in every language and its cosines are then high.
A high cosine is no evidence of shared refusal (a base model that refuses nothing reaches 0.75): see the transfer matrix.
Means are float64. What is not done: any correction of the cosine for noise; `reliability` says how large the noise is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from refusal_lens.geometry.layer import LayerActivations


@dataclass(frozen=True)
class Cosines:
    """Cosines of one layer, languages in the order of `LayerActivations.languages`.

    Attributes:
        cosine: Measured.
        low: 2.5 % quantile of the bootstrap, centred on the measured cosine.
        high: 97.5 % quantile of the bootstrap, centred on the measured cosine.
        null_low: 2.5 % quantile of the balanced shuffles.
        null_high: 97.5 % quantile of the balanced shuffles.
        norm: Length of each direction.
        null_norm: 95 % quantile of each language's shuffled directions' length.
        masked: Languages whose direction at this layer is rounding noise or no longer than shuffled ones.
    """

    cosine: Float64[np.ndarray, "lang lang"]
    low: Float64[np.ndarray, "lang lang"]
    high: Float64[np.ndarray, "lang lang"]
    null_low: Float64[np.ndarray, "lang lang"]
    null_high: Float64[np.ndarray, "lang lang"]
    norm: Float64[np.ndarray, " lang"]
    null_norm: Float64[np.ndarray, " lang"]
    masked: Bool[np.ndarray, " lang"]


def cosine_matrix(directions: Float[np.ndarray, "lang d_model"]) -> Float64[np.ndarray, "lang lang"]:
    """Cosine of every pair of directions; NaN where a direction is exactly zero."""
    unit = unit_rows(directions)
    return np.clip(unit @ unit.T, -1, 1)


def unit_rows(rows: Float[np.ndarray, "*many d_model"]) -> Float64[np.ndarray, "*many d_model"]:
    """Rows scaled to length one; NaN where a row is exactly zero."""
    exact = rows.astype(np.float64)
    length = np.linalg.norm(exact, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(length > 0, exact / length, np.nan)


def language_directions(layer: LayerActivations) -> Float64[np.ndarray, "lang d_model"]:
    """Difference of class means of every language, float64, not normalised."""
    return np.stack([h.astype(np.float64).mean(0) - b.astype(np.float64).mean(0) for h, b in layer.pairs()])


def measure_cosines(
    layer: LayerActivations, *, bootstrap: int = 200, permutations: int = 100, seed: int = 0
) -> Cosines:
    """Cosines of one layer with bootstrap intervals, permutation null and mask.

    Args:
        layer: Activations of all languages at one layer.
        bootstrap: Resamples of the interval.
        permutations: Balanced shuffles of the null.
        seed: Seed of both.

    Returns:
        Everything by language pair.
    """
    layer.require_parallel()
    rng = np.random.default_rng(seed)
    actual = language_directions(layer)
    drawn = _pair_cosines(_resampled(layer, _draws(layer, bootstrap, rng)))
    shuffled = _resampled(layer, _halves(layer, permutations, rng))
    null = _pair_cosines(shuffled)
    norm = np.linalg.norm(actual, axis=1)
    null_norm = np.quantile(np.linalg.norm(shuffled, axis=2), 0.95, axis=0).astype(np.float64)
    cosine, centre = cosine_matrix(actual), _quantile(drawn, 0.5)
    return Cosines(
        cosine=cosine,
        low=np.clip(cosine + _quantile(drawn, 0.025) - centre, -1, 1),
        high=np.clip(cosine + _quantile(drawn, 0.975) - centre, -1, 1),
        null_low=_quantile(null, 0.025),
        null_high=_quantile(null, 0.975),
        norm=norm,
        null_norm=null_norm,
        masked=is_noise(layer, norm, null_norm),
    )


def is_noise(
    layer: LayerActivations, norm: Float[np.ndarray, " lang"], null_norm: Float[np.ndarray, " lang"]
) -> Bool[np.ndarray, " lang"]:
    """Which directions are rounding noise (against the activations' size) or no longer than shuffled ones.

    Args:
        layer: Activations; `layer.rounding` is the relative precision of a mean.
        norm: Length of each language's direction.
        null_norm: 95 % quantile of the shuffled directions' length.

    Returns:
        True where the direction must not be read.
    """
    size = np.array([np.linalg.norm(h.astype(np.float64), axis=1).mean() for h, _ in layer.pairs()])
    return (norm <= layer.rounding * size) | (norm <= null_norm)


def reliability(layer: LayerActivations, *, splits: int = 50, seed: int = 0) -> Float64[np.ndarray, " lang"]:
    """Split-half reliability of each language's direction: what its cosine with itself would be under fresh prompts.

    Args:
        layer: Activations of one layer.
        splits: Random halvings of the prompts, averaged.
        seed: Seed of the halvings.

    Returns:
        Mean cosine of the two halves' directions, stepped up to the full size (Spearman-Brown), per language.
    """
    rng = np.random.default_rng(seed)
    halves = np.zeros(len(layer.languages))
    for _ in range(splits):
        for index, (harmful, harmless) in enumerate(layer.pairs()):
            parts = [np.array_split(rng.permutation(len(rows)), 2) for rows in (harmful, harmless)]
            one, two = (
                harmful[parts[0][side]].mean(0, dtype=np.float64) - harmless[parts[1][side]].mean(0, dtype=np.float64)
                for side in (0, 1)
            )
            halves[index] += float(cosine_matrix(np.stack([one, two]))[0, 1])
    mean = halves / splits
    return 2 * mean / (1 + np.abs(mean))


Weights = tuple[Float[np.ndarray, "resample harmful"], Float[np.ndarray, "resample harmless"]]


def _draws(layer: LayerActivations, count: int, rng: np.random.Generator) -> Weights:
    sizes = (len(layer.harmful[0]), len(layer.harmless[0]))
    harmful, harmless = (rng.multinomial(n, np.full(n, 1 / n), size=count) / n for n in sizes)
    return harmful, -harmless


def _halves(layer: LayerActivations, count: int, rng: np.random.Generator) -> Weights:
    """Signed weights of balanced shuffles: each class gives one half to either side; an odd prompt is left out."""
    made: list[Float[np.ndarray, "resample prompt"]] = []
    half_h, half_b = len(layer.harmful[0]) // 2, len(layer.harmless[0]) // 2
    for n, half in ((len(layer.harmful[0]), half_h), (len(layer.harmless[0]), half_b)):
        signs = np.zeros((count, n))
        signs[:, :half], signs[:, half : 2 * half] = 1, -1
        made.append(rng.permuted(signs, axis=1) / (half_h + half_b))
    return made[0], made[1]


def _resampled(layer: LayerActivations, weights: Weights) -> Float[np.ndarray, "resample lang d_model"]:
    harmful, harmless = (part.astype(np.float32) for part in weights)
    centre = [np.concatenate(pair).astype(np.float64).mean(0).astype(np.float32) for pair in layer.pairs()]
    made = [harmful @ (h - c) + harmless @ (b - c) for (h, b), c in zip(layer.pairs(), centre, strict=True)]
    return np.stack(made, axis=1)


def _pair_cosines(directions: Float[np.ndarray, "resample lang d_model"]) -> Float[np.ndarray, "resample lang lang"]:
    unit = unit_rows(directions)
    return np.clip(unit @ unit.transpose(0, 2, 1), -1, 1)


def _quantile(values: Float[np.ndarray, "resample lang lang"], share: float) -> Float64[np.ndarray, "lang lang"]:
    found = np.quantile(values, share, axis=0).astype(np.float64)
    diagonal = np.arange(found.shape[0])
    found[diagonal, diagonal] = np.where(np.isnan(found[diagonal, diagonal]), np.nan, 1.0)
    return found
