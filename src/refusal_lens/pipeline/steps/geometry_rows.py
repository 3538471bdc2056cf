"""Rows of the geometry tables that look at prompts: separation, pictures, harmfulness against refusal.

Activations are those of test prompts; every direction comes from train prompts.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from jaxtyping import Float

from refusal_lens.geometry import (
    answered_auc,
    auc,
    cosine_matrix,
    language_directions,
    project,
    project_layer,
    separate,
)
from refusal_lens.languages import get_language
from refusal_lens.pipeline.steps.material import Material
from refusal_lens.pipeline.tabular import Row
from refusal_lens.types import HARMS, Harm

PICTURES = 12


def separation_rows(material: Material) -> list[Row]:
    """Separation of every language at every layer, and whether the projection predicts what is answered."""
    rows: list[Row] = []
    for layer in range(material.n_layers) if material.tested and material.trained else ():
        direction = material.shared_direction(layer)
        if direction is None:
            continue
        activations = material.own("test", layer, material.site.position, material.tested)
        found = separate(activations, direction)
        for code, harmful in zip(activations.languages, activations.harmful, strict=True):
            item = material.recorded[code]
            labels = [material.labels[code].get(prompt_id, "unscored") for prompt_id in item.ids["test.harmful"]]
            scored = np.array([label != "unscored" for label in labels])
            refused = np.array([label == "refused" for label in labels])[scored]
            rows.append(
                {
                    "layer": layer,
                    "language": code,
                    **asdict(found[code]),
                    "baseline_compliance": material.compliance(code),
                    "tier": get_language(code).tier,
                    "answered_auc": answered_auc(project(harmful[scored], direction), refused)
                    if scored.any()
                    else None,
                    "stand_in": ",".join(item.stand_in) or None,
                }
            )
    return rows


def picture_rows(material: Material) -> list[Row]:
    """Principal components at up to `PICTURES` layers, the selected one among them."""
    rows: list[Row] = []
    if not material.tested or not material.trained:
        return rows
    spread = np.linspace(0, material.n_layers - 1, min(PICTURES, material.n_layers)).round().astype(int)
    chosen = {material.layer, *spread.tolist()}
    for layer in sorted(chosen):
        direction = material.shared_direction(layer)
        if direction is None:
            continue
        items, _ = project_layer(material.own("test", layer, material.site.position, material.tested), direction)
        for item in items:
            ids = material.recorded[item.language].ids
            names: list[tuple[Harm, str]] = [(harm, prompt_id) for harm in HARMS for prompt_id in ids[f"test.{harm}"]]
            for (harm, prompt_id), point, along in zip(names, item.pc.tolist(), item.along.tolist(), strict=True):
                place: Row = {"layer": layer, "language": item.language, "harm": harm, "prompt_id": prompt_id}
                rows.append({**place, "pc1": point[0], "pc2": point[1], "along": along})
    return rows


def two_direction_rows(material: Material) -> list[Row]:
    """Each language's harmfulness direction (instruction end) beside its refusal direction (template end)."""
    rows: list[Row] = []
    codes = [code for code in material.tested if code in material.trained]
    for layer in range(material.n_layers) if codes else ():
        places = (material.recorded[codes[0]].instruction_end, -1)
        directions = [language_directions(material.own("train", layer, place, codes)) for place in places]
        tests = [material.own("test", layer, place, codes) for place in places]
        for index, code in enumerate(codes):
            own = np.stack([part[index] for part in directions])
            scores = [_auc_along(tests[side].pairs()[index], own[side]) for side in (0, 1)]
            row: Row = {"layer": layer, "language": code, "cosine": float(cosine_matrix(own)[0, 1])}
            rows.append({**row, "auc_harmfulness": scores[0], "auc_refusal": scores[1]})
    return rows


def _auc_along(
    pair: tuple[Float[np.ndarray, "_ d_model"], Float[np.ndarray, "_ d_model"]],
    direction: Float[np.ndarray, " d_model"],
) -> float | None:
    return auc(project(pair[0], direction), project(pair[1], direction)) if direction.any() else None
