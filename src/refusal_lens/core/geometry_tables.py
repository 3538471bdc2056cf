"""The tables of the geometry: how directions lie to each other, and how they separate the classes of prompts."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict

from refusal_lens.core.columns import Harmfulness, High, Language, Layer, Low, Share
from refusal_lens.core.table import Table


class CosineRow(TypedDict):
    """Cosine between two languages' candidate directions at the selected position."""

    layer: Layer
    language_a: Language
    language_b: Language
    cosine: Annotated[float | None, "in [-1, 1]"]
    low: Low
    high: High
    null_low: Annotated[float | None, "lower bound under permuted labels"]
    null_high: Annotated[float | None, "upper bound under permuted labels"]
    masked: Annotated[bool | None, "one of the directions is not told from noise"]
    base: Annotated[float | None, "cosine in the base model; null without --base"]


class SharingRow(TypedDict):
    """How much of a language's direction the others share."""

    layer: Layer
    language: Language
    effective_rank: Annotated[float | None, "of all languages' directions at this layer"]
    shared: Annotated[float | None, "share along the mean direction of the others"]
    private: Annotated[float | None, "1 - shared"]
    reliability: Annotated[float | None, "split-half reliability of the direction"]
    norm: Annotated[float | None, "its length"]
    masked: Annotated[bool | None, "not told from noise"]


class TwoDirectionsRow(TypedDict):
    """Harmfulness (instruction's last token) beside refusal (template's last token)."""

    layer: Layer
    language: Language
    cosine: Annotated[float | None, "between the two directions"]
    auc_harmfulness: Annotated[float | None, "separation of the classes at the instruction's last token"]
    auc_refusal: Annotated[float | None, "separation of the classes at the template's last token"]


class ProjectionRow(TypedDict):
    """One prompt in the plane of the first two principal components."""

    layer: Layer
    language: Language
    harm: Harmfulness
    prompt_id: Annotated[str, "shared by the prompt's translations"]
    pc1: Annotated[float | None, "first principal component"]
    pc2: Annotated[float | None, "second principal component"]
    along: Annotated[float | None, "projection on the shared direction"]


class SeparationRow(TypedDict):
    """How well harmful and harmless prompts of a language separate along the shared direction."""

    layer: Layer
    language: Language
    auc: Annotated[float | None, "area under the ROC curve"]
    d_prime: Annotated[float | None, "difference of means over the pooled standard deviation"]
    margin: Annotated[float | None, "distance of the harmful mean from the threshold the other languages share"]
    silhouette: Annotated[float | None, "silhouette of the classes in the whole space"]
    baseline_compliance: Share
    tier: Annotated[str, "resource tier: high, medium or low"]
    silhouette_along: Annotated[float | None, "silhouette of the classes along the direction"]
    answered_auc: Annotated[float | None, "how well the projection tells answered from refused harmful prompts"]
    stand_in: Annotated[str | None, "classes whose test prompts are stood in for by validation prompts"]


COSINES = Table("cosines", CosineRow)
SHARING = Table("sharing", SharingRow)
TWO_DIRECTIONS = Table("two_directions", TwoDirectionsRow)
PROJECTION = Table("projection", ProjectionRow)
SEPARATION = Table("separation", SeparationRow)
