"""Where refusal lies in activation space, language by language: cosines, sharing, separation, projections, stability."""

from refusal_lens.geometry.cosines import (
    Cosines,
    cosine_matrix,
    language_directions,
    measure_cosines,
    reliability,
    unit_rows,
)
from refusal_lens.geometry.layer import LayerActivations
from refusal_lens.geometry.projection import Projected, project_layer
from refusal_lens.geometry.separation import Separation, answered_auc, auc, d_prime, project, separate, silhouette
from refusal_lens.geometry.shared import Sharing, effective_rank, sharing
from refusal_lens.geometry.stability import (
    DirectionStability,
    Site,
    SiteStability,
    direction_stability,
    site_stability,
)

__all__ = [
    "Cosines",
    "DirectionStability",
    "LayerActivations",
    "Projected",
    "Separation",
    "Sharing",
    "Site",
    "SiteStability",
    "answered_auc",
    "auc",
    "cosine_matrix",
    "d_prime",
    "direction_stability",
    "effective_rank",
    "language_directions",
    "measure_cosines",
    "project",
    "project_layer",
    "reliability",
    "separate",
    "sharing",
    "silhouette",
    "site_stability",
    "unit_rows",
]
