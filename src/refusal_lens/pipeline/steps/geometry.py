"""Step `geometry`: cosines, sharing, separation, pictures and the leak correlation, from stored activations.

    cosines, sharing    train prompts, selected position, every layer; base model's cosines beside them when one is named
    separation          test prompts along the shared direction, which comes from train prompts; every layer
    two directions      harmfulness at the instruction's last token, refusal at the template's last token
    leak                margin at the selected layer against baseline compliance, over languages; per prompt as AUC

No model runs here. What cannot be measured (a masked layer, a language without a class) is null, never zero.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import cast

import numpy as np
from jaxtyping import Float

from refusal_lens.geometry import direction_stability, language_directions, measure_cosines, reliability, sharing
from refusal_lens.measure import LeakRow, rank_correlation, why_languages_leak
from refusal_lens.pipeline.steps.geometry_rows import picture_rows, separation_rows, two_direction_rows
from refusal_lens.pipeline.steps.material import Material
from refusal_lens.pipeline.steps.selection import SELECTED
from refusal_lens.pipeline.tabular import FLAG, INTEGER, REAL, TEXT, Row, read_rows, schema, write_table
from refusal_lens.pipeline.workshop import Job
from refusal_lens.types import JsonValue

COSINES = schema(
    layer=INTEGER,
    language_a=TEXT,
    language_b=TEXT,
    cosine=REAL,
    low=REAL,
    high=REAL,
    null_low=REAL,
    null_high=REAL,
    masked=FLAG,
    base=REAL,
)
SHARING = schema(
    layer=INTEGER,
    language=TEXT,
    effective_rank=REAL,
    shared=REAL,
    private=REAL,
    reliability=REAL,
    norm=REAL,
    masked=FLAG,
)
SEPARATION = schema(
    layer=INTEGER,
    language=TEXT,
    auc=REAL,
    d_prime=REAL,
    margin=REAL,
    silhouette=REAL,
    baseline_compliance=REAL,
    tier=TEXT,
    silhouette_along=REAL,
    answered_auc=REAL,
    stand_in=TEXT,
)
PROJECTION = schema(layer=INTEGER, language=TEXT, harm=TEXT, prompt_id=TEXT, pc1=REAL, pc2=REAL, along=REAL)
TWO_DIRECTIONS = schema(layer=INTEGER, language=TEXT, cosine=REAL, auc_harmfulness=REAL, auc_refusal=REAL)
BASE = "base/cosines"


def geometry(job: Job) -> None:
    """Write the five tables and `geometry.json`."""
    material = Material.load(job, _valid_sources(job))
    cosines, shared, summary = _cosines(job, material)
    separation = [_known(row) for row in separation_rows(material)]
    write_table(job.folder, "cosines", [_known(row) for row in cosines], COSINES, csv=True)
    write_table(job.folder, "sharing", [_known(row) for row in shared], SHARING, csv=True)
    write_table(job.folder, "separation", separation, SEPARATION, csv=True)
    write_table(job.folder, "projection", picture_rows(material), PROJECTION)
    two = [_known(row) for row in two_direction_rows(material)]
    write_table(job.folder, "two_directions", two, TWO_DIRECTIONS, csv=True)
    at_site = [row for row in separation if row["layer"] == material.layer]
    result: dict[str, JsonValue] = {
        "site": cast("JsonValue", asdict(material.site)) if material.site.layer is not None else None,
        "layer": material.layer if material.recorded else None,
        "cosines": cast("JsonValue", summary),
        "separation": {str(row["language"]): cast("JsonValue", dict(row)) for row in at_site},
        "two_directions": {
            str(row["language"]): cast("JsonValue", dict(row)) for row in two if row["layer"] == material.layer
        },
        "leak": _leak(at_site),
        "stability": _stability(job, material),
    }
    text = json.dumps(_finite(result), ensure_ascii=False, indent=1, allow_nan=False)
    (job.folder / "geometry.json").write_text(text, encoding="utf-8")


def _valid_sources(job: Job) -> list[str]:
    found: list[str] = []
    for task_id in job.inputs_of("selection"):
        chosen = json.loads(job.input(task_id, "selection.json").read_text(encoding="utf-8"))
        if chosen["status"] == SELECTED:
            found.append(task_id.removeprefix("selection/"))
    return found


def _cosines(job: Job, material: Material) -> tuple[list[Row], list[Row], dict[str, JsonValue]]:
    options = job.shop.config.geometry
    base = {(row["layer"], row["language_a"], row["language_b"]): row["cosine"] for row in _base_rows(job)}
    rows: list[Row] = []
    shared: list[Row] = []
    summary: dict[str, JsonValue] = {}
    codes = material.trained
    for layer in range(material.n_layers) if codes else ():
        measured = measure_cosines(
            activations := material.parallel(layer, material.site.position),
            bootstrap=options.bootstrap,
            permutations=options.permutations,
            seed=cast("int", job.task.params["seed"]),
        )
        for i, one in enumerate(codes):
            for j, two in enumerate(codes):
                row = {
                    name: float(getattr(measured, name)[i, j])
                    for name in ("cosine", "low", "high", "null_low", "null_high")
                }
                masked = bool(measured.masked[i] or measured.masked[j])
                pair: Row = {"layer": layer, "language_a": one, "language_b": two}
                rows.append({**pair, **row, "masked": masked, "base": base.get((layer, one, two))})
        directions = language_directions(activations)
        parts, halves = sharing(directions), reliability(activations)
        for i, code in enumerate(codes):
            shared.append(
                {
                    "layer": layer,
                    "language": code,
                    "effective_rank": parts.effective_rank,
                    "shared": float(parts.shared[i]),
                    "private": 1 - float(parts.shared[i]),
                    "reliability": float(halves[i]),
                    "norm": float(measured.norm[i]),
                    "masked": bool(measured.masked[i]),
                }
            )
        block: dict[str, JsonValue] = {"languages": list[JsonValue](codes), "matrix": _matrix(measured.cosine)}
        block |= {name: _matrix(getattr(measured, name)) for name in ("low", "high", "null_low", "null_high")}
        block |= {"masked": measured.masked.tolist(), "effective_rank": parts.effective_rank}
        block["base"] = [[base.get((layer, a, b)) for b in codes] for a in codes] if base else None
        summary[str(layer)] = block
    return rows, shared, summary


def _base_rows(job: Job) -> list[Row]:
    return list(read_rows(job.input(BASE, "base.parquet"))) if BASE in job.task.inputs else []


def _leak(at_site: list[Row]) -> dict[str, JsonValue]:
    rows = [
        LeakRow(
            language=str(row["language"]),
            tier=str(row["tier"]),
            auc=_real(row, "auc"),
            d_prime=_real(row, "d_prime"),
            margin=_real(row, "margin"),
            baseline_compliance=_real(row, "baseline_compliance"),
            answered_auc=None if row["answered_auc"] is None else _real(row, "answered_auc"),
        )
        for row in at_site
    ]
    found = rank_correlation([row.margin for row in rows], [row.baseline_compliance for row in rows])
    return {"measure": "margin", **asdict(found), "text": why_languages_leak(rows, found)}


def _stability(job: Job, material: Material) -> dict[str, JsonValue]:
    result: dict[str, JsonValue] = {}
    for task_id in job.inputs_of("stability"):
        found = json.loads(job.input(task_id, "stability.json").read_text(encoding="utf-8"))
        result[str(found["source"])] = found
    if material.trained:
        activations = material.own("train", material.layer, material.site.position, material.trained)
        result["direction"] = {
            code: cast("JsonValue", asdict(direction_stability(h, b)))
            for code, (h, b) in zip(material.trained, activations.pairs(), strict=True)
        }
    main = result.get(material.site.source or "")
    if isinstance(main, dict):
        result |= {name: main[name] for name in ("same_site", "same_layer") if name in main}
    return result


def _matrix(values: Float[np.ndarray, "lang lang"]) -> JsonValue:
    return cast("JsonValue", values.tolist())


def _real(row: Row, name: str) -> float:
    value = row[name]
    return float("nan") if value is None else float(value)


def _known(row: Row) -> Row:
    """The row with null where a number is not finite: not measured, which is not zero."""
    return {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in row.items()}


def _finite(value: JsonValue) -> JsonValue:
    """The same value with null where a number is not finite: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
