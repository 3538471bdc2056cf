"""A 2-D picture of one layer: principal components of all prompts in all languages, and their place along the direction.

PCA is fitted on all rows together, centred, not scaled; the sign of a component is fixed so that harmful prompts lie on
the positive side on average, otherwise two identical runs could show mirrored pictures. A picture is no test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from sklearn.decomposition import PCA

from refusal_lens.geometry.layer import LayerActivations
from refusal_lens.geometry.separation import project


@dataclass(frozen=True)
class Projected:
    """Coordinates of one language's prompts, harmful rows first, then harmless.

    Attributes:
        language: Code.
        n_harmful: Number of harmful rows.
        pc: First two principal components.
        along: Projection on the shared direction.
    """

    language: str
    n_harmful: int
    pc: Float64[np.ndarray, "prompt 2"]
    along: Float64[np.ndarray, " prompt"]


def project_layer(
    layer: LayerActivations, direction: Float[np.ndarray, " d_model"]
) -> tuple[list[Projected], tuple[float, float]]:
    """Two principal components of a layer, and the projection on the shared direction.

    Args:
        layer: Activations of one layer.
        direction: The shared direction, of any length.

    Returns:
        One item per language, and the share of variance that each component explains.
    """
    stacks = [np.concatenate(pair).astype(np.float64) for pair in layer.pairs()]
    rows = np.concatenate(stacks)
    if min(rows.shape) < 2 or not np.ptp(rows, axis=0).any():
        flat = [np.zeros((len(stack), 2)) for stack in stacks]
        explained = (0.0, 0.0)
    else:
        fitted = PCA(
            n_components=2, svd_solver="covariance_eigh" if rows.shape[1] <= 512 else "randomized", random_state=0
        )
        points = fitted.fit_transform(rows)
        harmful = np.concatenate(
            [np.arange(len(stack)) < len(h) for stack, (h, _) in zip(stacks, layer.pairs(), strict=True)]
        )
        points = points * np.where(points[harmful].mean(0) >= points[~harmful].mean(0), 1.0, -1.0)
        flat = np.split(points, np.cumsum([len(stack) for stack in stacks])[:-1])
        explained = (float(fitted.explained_variance_ratio_[0]), float(fitted.explained_variance_ratio_[1]))
    items = [
        Projected(language, len(h), pc, project(stack, direction))
        for language, (h, _), pc, stack in zip(layer.languages, layer.pairs(), flat, stacks, strict=True)
    ]
    return items, explained
