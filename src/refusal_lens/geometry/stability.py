"""Is the selected site an accident of the prompts? Selection repeated on resampled prompts.

Two questions, both by bootstrap over prompts:

    selection   the validation prompts are drawn anew and the rule picks again: how often the same (position, layer)?
    direction   the training prompts are drawn anew: how close is the direction at the site to the one that was used?

The selection needs every candidate's score per prompt; which candidates survive the other filters is taken as given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from refusal_lens.geometry.cosines import unit_rows

Site = tuple[int, int]


@dataclass(frozen=True)
class SiteStability:
    """How often resampled prompts pick which site.

    Attributes:
        selected: The site picked on all prompts (position, layer).
        share: Share of resamples that pick it too.
        same_layer: Share of resamples that pick its layer, at any position.
        picks: Share of resamples per site, most frequent first.
    """

    selected: Site
    share: float
    same_layer: float
    picks: tuple[tuple[Site, float], ...]


def site_stability(
    scores: Float[np.ndarray, "site prompt"], sites: Sequence[Site], *, resamples: int = 1000, seed: int = 0
) -> SiteStability:
    """Repeat "take the lowest mean score" over resampled prompts.

    Args:
        scores: Score of each surviving candidate on each validation prompt; lower is better.
        sites: (position, layer) of each candidate, in the order in which ties are broken.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        How stable the choice is.
    """
    prompts = scores.shape[1]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples) / prompts
    chosen = sites[int(np.argmin(scores.mean(axis=1)))]
    counts = Counter(sites[index] for index in np.argmin(weights @ scores.T, axis=1))
    picks = tuple((site, count / resamples) for site, count in counts.most_common())
    same_layer = sum(share for (_, layer), share in picks if layer == chosen[1])
    return SiteStability(chosen, counts[chosen] / resamples, same_layer, picks)


@dataclass(frozen=True, slots=True)
class DirectionStability:
    """Cosine of the direction with its bootstrap replicates: mean and 2.5 % quantile."""

    mean: float
    low: float


def direction_stability(
    harmful: Float[np.ndarray, "harmful d_model"],
    harmless: Float[np.ndarray, "harmless d_model"],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> DirectionStability:
    """Draw the prompts anew and compare the direction with the original one.

    Args:
        harmful: Activations at the site.
        harmless: The same for harmless prompts.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        Cosines of the replicates with the direction of all prompts.
    """
    rng = np.random.default_rng(seed)
    means = [_replicates(part, resamples, rng) for part in (harmful, harmless)]
    original = harmful.mean(0, dtype=np.float64) - harmless.mean(0, dtype=np.float64)
    cosines = unit_rows(means[0] - means[1]) @ unit_rows(original)
    return DirectionStability(float(cosines.mean()), float(np.quantile(cosines, 0.025)))


def _replicates(
    rows: Float[np.ndarray, "prompt d_model"], resamples: int, rng: np.random.Generator
) -> Float64[np.ndarray, "resample d_model"]:
    n = len(rows)
    return (rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n) @ rows.astype(np.float64)
