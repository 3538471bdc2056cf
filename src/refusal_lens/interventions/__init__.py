"""Interventions on the residual stream: pure functions, and one context manager that puts them in place."""

from refusal_lens.interventions.ablation import Ablation
from refusal_lens.interventions.addition import Addition
from refusal_lens.interventions.context import intervening
from refusal_lens.interventions.projection import set_projection, unit
from refusal_lens.model import Intervention

__all__ = ["Ablation", "Addition", "Intervention", "intervening", "set_projection", "unit"]
