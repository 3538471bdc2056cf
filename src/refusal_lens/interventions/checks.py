"""What every run is checked for: that what it measures of this model means what it says.

1. Padding changes no logit, or prompts in one batch change each other's numbers.
2. An earlier position does not see later tokens: otherwise the model is no causal language model.
3. No reader of the residual stream sees an ablated direction, by hooks and (where that is exact) by folded weights.

`check_model` measures these once per loaded model, in seconds; `doctor` measures more. Limits follow from rounding: what
was measured on real models in each format stands in docs/architectures.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from refusal_lens.errors import ModelError
from refusal_lens.interventions.ablation import Ablation
from refusal_lens.interventions.leak import residual_leak
from refusal_lens.model import LensModel, fold_plan
from refusal_lens.model.forward import stream

LEAK_LIMIT: Mapping[torch.dtype, float] = {torch.bfloat16: 2e-2, torch.float16: 2.5e-3}
"""Ten times the largest rounding error of a number: 2^-9 in bfloat16, 2^-12 in float16."""

LOGIT_LIMIT: Mapping[torch.dtype, float] = {torch.bfloat16: 1e-1, torch.float16: 2e-2}
"""Of logits that should be equal but come from differently shaped passes, as a share of the largest."""

FULL_LEAK_LIMIT, FULL_LOGIT_LIMIT = 1e-5, 1e-4
"""The same in float32 and float64."""

HOOKED_LEAK = "no reader sees an ablated direction"
FOLDED_LEAK = "no reader sees it with folded weights"
PADDING = "padding changes no logit"
CAUSALITY = "no position sees later tokens"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, whether it passed, and what was measured."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ModelChecks:
    """What was measured of a model before its numbers are trusted.

    Attributes:
        padding_error: Largest change of a logit by padding, as a share of the largest logit.
        causality_error: Largest change of an earlier position's logit by another last token, likewise.
        residual_leak: Largest share of an ablated direction that any reader saw, with hooks.
        folded_leak: The same with folded weights; None where weights cannot carry an ablation.
        folding: "exact" where they can, else "hooks".
        why_not_folded: Why they cannot, None where they can.
        checks: Each of these against its limit.
    """

    padding_error: float
    causality_error: float
    residual_leak: float
    folded_leak: float | None
    folding: Literal["exact", "hooks"]
    why_not_folded: str | None
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    @property
    def failures(self) -> str:
        """The failed checks with what was measured, in one line; empty where all passed."""
        return "; ".join(f"not true: {check.name}, {check.detail}" for check in self.checks if not check.ok)

    def numbers(self) -> dict[str, float | str | None]:
        """What was measured, by name, for a record; to two digits, since the rest changes with the number of threads."""
        measured = {
            "padding_error": self.padding_error,
            "causality_error": self.causality_error,
            "residual_leak": self.residual_leak,
            "folded_leak": self.folded_leak,
        }
        rounded = {name: None if value is None else float(f"{value:.1e}") for name, value in measured.items()}
        return {**rounded, "folding": self.folding}


_CHECKED: WeakKeyDictionary[LensModel, ModelChecks] = WeakKeyDictionary()


def check_model(model: LensModel) -> ModelChecks:
    """Measure what every number of a run relies on, once per loaded model.

    Args:
        model: The model.

    Returns:
        What was measured, each against its limit.

    Example:
        >>> check_model(load_model("testbed:aligned")).ok
        True
    """
    if model not in _CHECKED:
        _CHECKED[model] = _measure(model)
    return _CHECKED[model]


def require_sound(model: LensModel, *, accept_inexact: bool = False) -> ModelChecks:
    """Check a model and stop where its numbers would not mean what they say.

    Args:
        model: The model.
        accept_inexact: Go on all the same; whoever asks for this marks every number.

    Returns:
        What was measured.

    Raises:
        ModelError: A check fails and that was not accepted.
    """
    found = check_model(model)
    if not found.ok and not accept_inexact:
        raise ModelError(
            f"{model.provenance.spec} fails its checks ({found.failures}): numbers measured of it would be wrong. "
            "`refusal-lens doctor` shows every check; --accept-inexact goes on and marks every number"
        )
    return found


def small(name: str, value: float, limit: float) -> Check:
    """A check that a measured error is within a limit; NaN is not."""
    return Check(name, ok=value <= limit, detail=f"{value:.1e} (limit {limit:.0e}, relative)")


def probing_directions(model: LensModel) -> list[Tensor]:
    """A random direction and one the model uses: the stream at the last token, half-way up; of the latter's length."""
    random = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    used = stream(model, model.probes(1), model.n_layers // 2)[0].cpu()
    return [random / random.norm() * (float(used.norm()) or 1.0), used]


@torch.no_grad()
def _measure(model: LensModel) -> ModelChecks:
    leak_limit = LEAK_LIMIT.get(model.dtype, FULL_LEAK_LIMIT)
    logit_limit = LOGIT_LIMIT.get(model.dtype, FULL_LOGIT_LIMIT)
    ablations = [Ablation(direction) for direction in probing_directions(model)]
    padding, causality = padding_error(model), causality_error(model)
    probes = model.probes(3)
    leak = max(residual_leak(model, ablation, token_ids=probes) for ablation in ablations)
    checks = [
        small(PADDING, padding, logit_limit),
        small(CAUSALITY, causality, logit_limit),
        small(HOOKED_LEAK, leak, leak_limit),
    ]
    plan = fold_plan(model)
    folded = None
    if plan.exact:
        folded = max(residual_leak(model, ablation, fold=True, token_ids=probes) for ablation in ablations)
        checks.append(small(FOLDED_LEAK, folded, leak_limit))
    return ModelChecks(
        padding, causality, leak, folded, "exact" if plan.exact else "hooks", plan.why_not, tuple(checks)
    )


@torch.no_grad()
def padding_error(model: LensModel) -> float:
    """Largest difference of a next-token logit between prompts in one padded batch and each alone."""
    ids = model.probes(4)
    together = model.logits(model.batch(ids)).float()
    alone = torch.cat([model.logits(model.batch([one])).float() for one in ids])
    return float((together - alone).abs().max() / alone.abs().max().clamp_min(1e-12))


@torch.no_grad()
def causality_error(model: LensModel) -> float:
    """Largest change of any earlier position's logit when the last token is another one."""
    ids = model.probes(1)[0]
    other = next(
        token for token in (*ids, (ids[-1] + 1) % model.hf.config.get_text_config().vocab_size) if token != ids[-1]
    )
    batch = model.batch([ids, [*ids[:-1], other]])
    logits = (
        model.hf(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits[:, :-1].float()
    )
    return float((logits[0] - logits[1]).abs().max() / logits[0].abs().max().clamp_min(1e-12))
