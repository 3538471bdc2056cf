"""Interventions on the residual stream: pure functions, and one context manager that puts them in place."""

from refusal_lens.interventions.ablation import Ablation, reference_of
from refusal_lens.interventions.addition import Addition
from refusal_lens.interventions.checks import Check, ModelChecks, check_model, require_sound
from refusal_lens.interventions.context import folded, intervening
from refusal_lens.interventions.doctor import Doctor, doctor
from refusal_lens.interventions.fired import FiredProof, Shares, require_fired
from refusal_lens.interventions.given import Given, per_row
from refusal_lens.interventions.leak import residual_leak
from refusal_lens.interventions.making import Made, Maker, make, register
from refusal_lens.model import Intervention, set_projection, unit

__all__ = [
    "Ablation",
    "Addition",
    "Check",
    "Doctor",
    "FiredProof",
    "Given",
    "Intervention",
    "Made",
    "Maker",
    "ModelChecks",
    "Shares",
    "check_model",
    "doctor",
    "folded",
    "intervening",
    "make",
    "per_row",
    "reference_of",
    "register",
    "require_fired",
    "require_sound",
    "residual_leak",
    "set_projection",
    "unit",
]
