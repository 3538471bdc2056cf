"""Rows of the geometry tables that look at prompts: separation, pictures, harmfulness against refusal.

Activations are those of test prompts; every direction comes from train prompts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from refusal_lens.core.geometry_tables import ProjectionRow, SeparationRow, TwoDirectionsRow
from refusal_lens.geometry import (
    answered_auc,
    auc,
    cosine_matrix,
    language_directions,
    project,
    project_layer,
    separate,
)
from refusal_lens.pipeline.steps.geometry_inputs import Measured
from refusal_lens.types import HARMS, Harm

PICTURES = 12


def separation_rows(measured: Measured, tiers: Mapping[str, str]) -> list[SeparationRow]:
    """Separation of every language at every layer, and whether the projection predicts what is answered."""
    rows: list[SeparationRow] = []
    for layer in range(measured.n_layers) if measured.tested and measured.trained else ():
        direction = measured.shared_direction(layer)
        if direction is None:
            continue
        activations = measured.own("test", layer, measured.site.position, measured.tested)
        found = separate(activations, direction)
        for code, harmful in zip(activations.languages, activations.harmful, strict=True):
            item = measured.recorded[code]
            labels = [measured.labels[code].get(prompt_id, "unscored") for prompt_id in item.ids["test.harmful"]]
            scored = np.array([label != "unscored" for label in labels])
            refused = np.array([label == "refused" for label in labels])[scored]
            rows.append(
                {
                    "layer": layer,
                    "language": code,
                    "auc": found[code].auc,
                    "d_prime": found[code].d_prime,
                    "margin": found[code].margin,
                    "silhouette": found[code].silhouette,
                    "baseline_compliance": measured.compliance(code),
                    "tier": tiers[code],
                    "answered_auc": answered_auc(project(harmful[scored], direction), refused)
                    if scored.any()
                    else None,
                    "silhouette_along": found[code].silhouette_along,
                    "stand_in": ",".join(item.stand_in) or None,
                }
            )
    return rows


def picture_rows(measured: Measured) -> list[ProjectionRow]:
    """Principal components at up to `PICTURES` layers, the selected one among them."""
    rows: list[ProjectionRow] = []
    if not measured.tested or not measured.trained:
        return rows
    spread = np.linspace(0, measured.n_layers - 1, min(PICTURES, measured.n_layers)).round().astype(int)
    chosen = {measured.layer, *spread.tolist()}
    for layer in sorted(chosen):
        direction = measured.shared_direction(layer)
        if direction is None:
            continue
        items, _ = project_layer(measured.own("test", layer, measured.site.position, measured.tested), direction)
        for item in items:
            ids = measured.recorded[item.language].ids
            names: list[tuple[Harm, str]] = [(harm, prompt_id) for harm in HARMS for prompt_id in ids[f"test.{harm}"]]
            for (harm, prompt_id), point, along in zip(names, item.pc.tolist(), item.along.tolist(), strict=True):
                rows.append(
                    {
                        "layer": layer,
                        "language": item.language,
                        "harm": harm,
                        "prompt_id": prompt_id,
                        "pc1": point[0],
                        "pc2": point[1],
                        "along": along,
                    }
                )
    return rows


def two_direction_rows(measured: Measured) -> list[TwoDirectionsRow]:
    """Each language's harmfulness direction (instruction end) beside its refusal direction (template end)."""
    rows: list[TwoDirectionsRow] = []
    codes = [code for code in measured.tested if code in measured.trained]
    for layer in range(measured.n_layers) if codes else ():
        places = (measured.recorded[codes[0]].instruction_end, -1)
        directions = [language_directions(measured.own("train", layer, place, codes)) for place in places]
        tests = [measured.own("test", layer, place, codes) for place in places]
        for index, code in enumerate(codes):
            own = np.stack([part[index] for part in directions])
            scores = [_auc_along(tests[side].pairs()[index], own[side]) for side in (0, 1)]
            rows.append(
                {
                    "layer": layer,
                    "language": code,
                    "cosine": float(cosine_matrix(own)[0, 1]),
                    "auc_harmfulness": scores[0],
                    "auc_refusal": scores[1],
                }
            )
    return rows


def _auc_along(
    pair: tuple[Float[np.ndarray, "_ d_model"], Float[np.ndarray, "_ d_model"]],
    direction: Float[np.ndarray, " d_model"],
) -> float | None:
    return auc(project(pair[0], direction), project(pair[1], direction)) if direction.any() else None
