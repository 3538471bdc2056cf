"""Whether an engine may answer in place of transformers: what it can hold, what is left of a direction, whose tokens it writes.

1. It reads files: what is merged or dequantised in memory is not there.
2. |x.r| / |x| before the head, with r folded, must be rounding (the limits of `interventions.checks`).
3. Given the prompt and the tokens so far, each token must be the one that transformers, with the same intervention by hooks,
   holds most likely, or lie behind it by rounding alone:  (max - chosen) / (max - mean)  of its logits.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.errors import ModelError
from refusal_lens.interventions import intervening
from refusal_lens.interventions.checks import FULL_LEAK_LIMIT, LEAK_LIMIT
from refusal_lens.model import Intervention, LensModel, fold_plan, unit

BEHIND = {torch.float32: 1e-3}
LOW_PRECISION_BEHIND = 5e-2
"""How far a token may lie behind transformers' first choice, as a share of the spread of the logits."""


def is_installed() -> bool:
    """Whether vLLM can be imported, without importing it."""
    return importlib.util.find_spec("vllm") is not None


def require_installed() -> None:
    """Stop where vLLM was asked for by name and is not there."""
    if not is_installed():
        raise ModelError(
            "--engine vllm needs vLLM: pip install 'refusal-lens[vllm]' (docs/engines.md), or leave --engine out"
        )


def why_not_read(model: LensModel) -> str | None:
    """Why vLLM would not read the same weights from the model's files; None where it does.

    Args:
        model: The model.

    Returns:
        The reason.
    """
    origin = model.provenance
    if origin.adapter is not None:
        return "its adapter is merged in memory, and vLLM reads files"
    if origin.stored is not None:
        return f"its weights are stored as {origin.stored}"
    return None


def why_not_folded(model: LensModel, workers: Sequence[Mapping[str, object]]) -> str | None:
    """Why weights inside vLLM cannot carry an intervention: our own proof first, then what its workers found.

    Args:
        model: The model.
        workers: What `describe` of each worker said.

    Returns:
        The reason, None where they can.
    """
    plan = fold_plan(model)
    if plan.why_not is not None:
        return plan.why_not
    for found in workers:
        if found["why_not"] is not None:
            return str(found["why_not"])
        if found["blocks"] != model.n_layers:
            return f"vLLM has {found['blocks']} blocks where transformers has {model.n_layers}"
    return None


def require_gone(model: LensModel, direction: Float[Tensor, " d_model"], stream: Float[Tensor, "row d_model"]) -> None:
    """Stop where more of a folded direction than rounding is left.

    Args:
        model: The model.
        direction: What was ablated.
        stream: What the head reads, each row up to its length.

    Raises:
        ModelError: More than the limit is left.
    """
    limit = LEAK_LIMIT.get(model.dtype, FULL_LEAK_LIMIT)
    left = float(((stream @ unit(direction).cpu()).abs() / stream.norm(dim=-1).clamp_min(1e-12)).max())
    if not left <= limit:
        raise ModelError(
            f"folded inside vLLM, {left:.2e} of the direction is left before the head (limit {limit:g}); use --engine hf"
        )


@torch.no_grad()
def require_agreement(
    model: LensModel, change: Intervention | None, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> None:
    """Stop where an engine's tokens are not those that transformers would choose.

    Args:
        model: The model.
        change: The intervention of the answers, None for the untouched model.
        prompts: Token ids.
        answers: Token ids that the engine wrote after each.

    Raises:
        ModelError: A token lies further behind the first choice than rounding.
    """
    limit = BEHIND.get(model.dtype, LOW_PRECISION_BEHIND)
    with intervening(model, [] if change is None else [change]):
        for prompt, answer in zip(prompts, answers, strict=True):
            batch = model.batch([[*prompt, *answer]])
            logits = model.hf(input_ids=batch.input_ids, position_ids=batch.position_ids).logits[0].float()
            at = logits[len(prompt) - 1 : len(prompt) - 1 + len(answer)]
            chosen = at.gather(1, torch.tensor(answer, device=at.device).unsqueeze(1)).squeeze(1)
            behind = float(((at.amax(-1) - chosen) / (at.amax(-1) - at.mean(-1))).max())
            if not behind <= limit:
                what = "untouched" if change is None else f"under {type(change).__name__.lower()}"
                raise ModelError(
                    f"vLLM's answers are not those of transformers ({what}): a token lies {behind:.1%} of the logits' "
                    f"spread behind the first choice (limit {limit:.1%}); use --engine hf, and report this model"
                )
