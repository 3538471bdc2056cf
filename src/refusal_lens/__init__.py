"""RefusalLens: how a language model refuses, in 14 languages and from the inside.

    import refusal_lens as rl

    model = rl.load_model("testbed:aligned")
    harmful = rl.load_prompts("PolyRefuse", language="de", split="train", harm="harmful")
    direction = rl.find_direction(model, harmful, harmless, language="de")
    answers = rl.generate(model, ["..."], interventions=[direction.ablation()])

Names are imported when first used, so that `import refusal_lens` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refusal_lens.api import audit
    from refusal_lens.directions import (
        Candidates,
        CandidateScore,
        Direction,
        Selection,
        discover_refusal_tokens,
        extract,
        find_direction,
        score,
        select,
    )
    from refusal_lens.interventions import Ablation, Addition, intervening
    from refusal_lens.judging import get_judge
    from refusal_lens.model import LensModel, generate, load_model
    from refusal_lens.monitor import Monitor
    from refusal_lens.pipeline import Run, open_run
    from refusal_lens.prompts import load_prompts

_HOMES = {
    "audit": "api",
    "Candidates": "directions",
    "CandidateScore": "directions",
    "Direction": "directions",
    "Selection": "directions",
    "discover_refusal_tokens": "directions",
    "extract": "directions",
    "find_direction": "directions",
    "score": "directions",
    "select": "directions",
    "Ablation": "interventions",
    "Addition": "interventions",
    "intervening": "interventions",
    "get_judge": "judging",
    "LensModel": "model",
    "generate": "model",
    "Monitor": "monitor",
    "load_model": "model",
    "Run": "pipeline",
    "open_run": "pipeline",
    "load_prompts": "prompts",
}

__version__ = "0.1.0"
__all__ = [
    "Ablation",
    "Addition",
    "CandidateScore",
    "Candidates",
    "Direction",
    "LensModel",
    "Monitor",
    "Run",
    "Selection",
    "audit",
    "discover_refusal_tokens",
    "extract",
    "find_direction",
    "generate",
    "get_judge",
    "intervening",
    "load_model",
    "load_prompts",
    "open_run",
    "score",
    "select",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
