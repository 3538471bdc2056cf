"""How much of the languages' directions is one direction: effective rank, and each language's shared and private part.

    p_i             = s_i / sum s               s: singular values of the unit directions stacked [lang, d_model]
    effective rank  = exp(-sum p_i log p_i)     1: all parallel; number of languages: all orthogonal
    shared_l        = cos(r_l, mean of the other languages' unit directions)^2, 0 where the cosine is negative
    private_l       = 1 - shared_l

The mean leaves the language itself out, or every direction would share something with itself. Noise lowers `shared`:
read it beside the reliability of the direction. Source of the effective rank: Roy and Vetterli (2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from refusal_lens.geometry.cosines import unit_rows


@dataclass(frozen=True)
class Sharing:
    """Shared and private part of every language's direction at one layer.

    Attributes:
        effective_rank: In [1, number of languages]; NaN without any direction.
        shared: Share of the squared length along the other languages' mean direction, per language.
        mean_direction: Unit vector: mean of all languages' unit directions, normalised.
    """

    effective_rank: float
    shared: Float64[np.ndarray, " lang"]
    mean_direction: Float64[np.ndarray, " d_model"]


def effective_rank(directions: Float[np.ndarray, "lang d_model"]) -> float:
    """Effective rank of a set of directions, each scaled to length one; zero vectors are left out."""
    unit = unit_rows(directions)
    unit = unit[~np.isnan(unit).any(axis=1)]
    if not len(unit):
        return float("nan")
    values = np.linalg.svd(unit, compute_uv=False)
    values = values[values > values[0] * max(unit.shape) * np.finfo(np.float64).eps]  # rounding is no direction
    share = values / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def sharing(directions: Float[np.ndarray, "lang d_model"]) -> Sharing:
    """Split every direction into what it shares with the other languages and what is its own.

    Args:
        directions: One per language, not normalised.

    Returns:
        Effective rank, shared parts and the mean direction.
    """
    unit = unit_rows(directions)
    total = np.nansum(unit, axis=0)
    others = unit_rows(total[None, :] - np.nan_to_num(unit))
    cosine = (unit * others).sum(axis=1)
    return Sharing(
        effective_rank(directions), np.where(np.isnan(cosine), np.nan, np.clip(cosine, 0, 1) ** 2), unit_rows(total)
    )
