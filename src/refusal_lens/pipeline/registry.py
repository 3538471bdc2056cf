"""The steps of an audit, in the order of the plan. A new step is a file of `steps/` and a name here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refusal_lens.pipeline.step import Step
from refusal_lens.pipeline.steps import (
    activations,
    base_model,
    candidates,
    checks,
    completions,
    damage,
    direction,
    filtering,
    geometry,
    overview,
    prompts,
    rates,
    scores,
    selection,
    stability,
    tokens,
    universality,
    verdicts,
)

_MODULES = (
    checks, prompts, tokens, filtering, candidates, scores, selection, direction, completions, verdicts, rates, overview, damage,
    universality, activations, stability, base_model, geometry,
)  # fmt: skip
STEPS: Mapping[str, Step[Any]] = {module.STEP.name: module.STEP for module in _MODULES}
