"""Step `geometry`: cosines, sharing, separation, pictures and the leak correlation, from stored activations.

    cosines, sharing    train prompts, selected position, every layer; base model's cosines beside them when one is named
    separation          test prompts along the shared direction, which comes from train prompts; every layer
    two directions      harmfulness at the instruction's last token, refusal at the template's last token
    leak                margin at the selected layer against baseline compliance, over languages; per prompt as AUC

No model runs here. What cannot be measured (a masked layer, a language without a class) is null, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar, cast

import numpy as np
from jaxtyping import Float

from refusal_lens.core.geometry_tables import (
    COSINES,
    PROJECTION,
    SEPARATION,
    SHARING,
    TWO_DIRECTIONS,
    CosineRow,
    SeparationRow,
    SharingRow,
)
from refusal_lens.geometry import direction_stability, language_directions, measure_cosines, reliability, sharing
from refusal_lens.languages import get_language
from refusal_lens.measure import LeakRow, rank_correlation, why_languages_leak
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Rows, Step, Tools
from refusal_lens.pipeline.steps.base_model import TABLE as BASE
from refusal_lens.pipeline.steps.geometry_inputs import Measured
from refusal_lens.pipeline.steps.geometry_rows import picture_rows, separation_rows, two_direction_rows
from refusal_lens.pipeline.steps.stability import FILE as STABILITY
from refusal_lens.types import JsonValue

RowT = TypeVar("RowT")
Places = Mapping[tuple[int, str, str], float]


@dataclass(frozen=True)
class Params:
    """Resamplings of the cosines, their seed, and the resource tier of every language."""

    bootstrap: int
    permutations: int
    seed: int
    tiers: dict[str, str]


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task over all recorded languages."""
    options = planning.config.geometry
    if not options.enabled or not planning.sources:
        return
    tiers = {language: str(get_language(language).tier) for language in planning.languages}
    verdicts = tuple(item for code in planning.languages for item in planning.baseline("verdicts", code, "harmful"))
    read = (*planning.ids("activations", "selection", "stability", "base"), *verdicts)
    yield Ask("all", Params(options.bootstrap, options.permutations, planning.config.seed, tiers), read)


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:  # noqa: ARG001
    """The five tables and `geometry.json`."""
    measured = Measured.load(inputs)
    cosines, shared, summary = _cosines(params, inputs, measured)
    separation = [_known(row) for row in separation_rows(measured, params.tiers)]
    two = [_known(row) for row in two_direction_rows(measured)]
    at_site = [row for row in separation if row["layer"] == measured.layer]
    result: dict[str, JsonValue] = {
        "site": cast("JsonValue", asdict(measured.site)) if measured.site.layer is not None else None,
        "layer": measured.layer if measured.recorded else None,
        "cosines": cast("JsonValue", summary),
        "separation": {row["language"]: cast("JsonValue", dict(row)) for row in at_site},
        "two_directions": {
            row["language"]: cast("JsonValue", dict(row)) for row in two if row["layer"] == measured.layer
        },
        "leak": _leak(at_site),
        "stability": _stability(inputs, measured),
    }
    return [
        Rows(COSINES, [_known(row) for row in cosines]),
        Rows(SHARING, [_known(row) for row in shared]),
        Rows(SEPARATION, separation),
        Rows(PROJECTION, picture_rows(measured)),
        Rows(TWO_DIRECTIONS, two),
        Document("geometry.json", _finite(result), finite=True),
    ]


def _cosines(
    params: Params, inputs: Inputs, measured: Measured
) -> tuple[list[CosineRow], list[SharingRow], dict[str, JsonValue]]:
    base: Places = {
        (row["layer"], row["language_a"], row["language_b"]): row["cosine"]
        for task_id in inputs.of("base").values()
        for row in inputs.rows(BASE, task_id)
    }
    rows: list[CosineRow] = []
    shared: list[SharingRow] = []
    summary: dict[str, JsonValue] = {}
    codes = measured.trained
    for layer in range(measured.n_layers) if codes else ():
        found = measure_cosines(
            activations := measured.parallel(layer, measured.site.position),
            bootstrap=params.bootstrap,
            permutations=params.permutations,
            seed=params.seed,
        )
        rows.extend(
            [
                {
                    "layer": layer,
                    "language_a": one,
                    "language_b": two,
                    "cosine": float(found.cosine[i, j]),
                    "low": float(found.low[i, j]),
                    "high": float(found.high[i, j]),
                    "null_low": float(found.null_low[i, j]),
                    "null_high": float(found.null_high[i, j]),
                    "masked": bool(found.masked[i] or found.masked[j]),
                    "base": base.get((layer, one, two)),
                }
                for i, one in enumerate(codes)
                for j, two in enumerate(codes)
            ]
        )
        parts, halves = sharing(language_directions(activations)), reliability(activations)
        shared.extend(
            [
                {
                    "layer": layer,
                    "language": code,
                    "effective_rank": parts.effective_rank,
                    "shared": float(parts.shared[i]),
                    "private": 1 - float(parts.shared[i]),
                    "reliability": float(halves[i]),
                    "norm": float(found.norm[i]),
                    "masked": bool(found.masked[i]),
                }
                for i, code in enumerate(codes)
            ]
        )
        block: dict[str, JsonValue] = {"languages": list[JsonValue](codes), "matrix": _matrix(found.cosine)}
        block |= {name: _matrix(getattr(found, name)) for name in ("low", "high", "null_low", "null_high")}
        block |= {"masked": found.masked.tolist(), "effective_rank": parts.effective_rank}
        block["base"] = [[base.get((layer, a, b)) for b in codes] for a in codes] if base else None
        summary[str(layer)] = block
    return rows, shared, summary


def _leak(at_site: list[SeparationRow]) -> dict[str, JsonValue]:
    rows = [
        LeakRow(
            language=row["language"],
            tier=row["tier"],
            auc=_real(row["auc"]),
            d_prime=_real(row["d_prime"]),
            margin=_real(row["margin"]),
            baseline_compliance=_real(row["baseline_compliance"]),
            answered_auc=row["answered_auc"],
        )
        for row in at_site
    ]
    found = rank_correlation([row.margin for row in rows], [row.baseline_compliance for row in rows])
    return {"measure": "margin", **asdict(found), "text": why_languages_leak(rows, found)}


def _stability(inputs: Inputs, measured: Measured) -> dict[str, JsonValue]:
    result: dict[str, JsonValue] = {
        source: inputs.json(task_id, STABILITY) for source, task_id in inputs.of("stability").items()
    }
    if measured.trained:
        activations = measured.own("train", measured.layer, measured.site.position, measured.trained)
        result["direction"] = {
            code: cast("JsonValue", asdict(direction_stability(h, b)))
            for code, (h, b) in zip(measured.trained, activations.pairs(), strict=True)
        }
    main = result.get(measured.site.source or "")
    if isinstance(main, dict):
        result |= {name: main[name] for name in ("same_site", "same_layer") if name in main}
    return result


def _matrix(values: Float[np.ndarray, "lang lang"]) -> JsonValue:
    return cast("JsonValue", values.tolist())


def _real(value: float | None) -> float:
    return float("nan") if value is None else value


def _known(row: RowT) -> RowT:
    """The row with null where a number is not finite: not measured, which is not zero."""
    fields = cast("Mapping[str, object]", row)
    known = {
        name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in fields.items()
    }
    return cast("RowT", known)


def _finite(value: JsonValue) -> JsonValue:
    """The same value with null where a number is not finite: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


STEP = Step(
    name="geometry",
    version=2,
    params=Params,
    plan=plan,
    compute=compute,
    reads=("activations", "selection", "stability", "base", "verdicts"),
    tables=(COSINES, SHARING, SEPARATION, PROJECTION, TWO_DIRECTIONS),
    published=True,
)
