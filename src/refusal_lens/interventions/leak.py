"""How much of an ablated direction the readers of the residual stream still see, measured where they read.

leak = max over readers and positions of |x.r - c| / |x|, with x what a reader is given: the inputs of every block's
attention and MLP (or of the norms before them) and of the final norm, in prefill and while decoding.

Each position is measured against its own norm, because that is what a norm divides it by. The first token of many models
has a norm hundreds of times that of the others: against the mean norm, its rounding alone looks like a leak of several
per cent in bfloat16 (docs/architectures.md has both measures).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from refusal_lens.interventions.ablation import Ablation
from refusal_lens.interventions.context import folded, intervening
from refusal_lens.model import PROBES, LensModel, hidden_input
from refusal_lens.model.cache import holding
from refusal_lens.model.lens import LAST


@torch.no_grad()
def residual_leak(
    model: LensModel,
    ablation: Ablation,
    *,
    fold: bool = False,
    instructions: Sequence[str] = PROBES,
    token_ids: Sequence[Sequence[int]] | None = None,
) -> float:
    """Largest share of the ablated direction that any reader sees.

    Args:
        model: The model.
        ablation: One direction for all rows.
        fold: Fold it into the weights instead of using hooks.
        instructions: Prompts of different lengths, so that padding takes part.
        token_ids: Rendered prompts in their place.

    Returns:
        0 for a perfect ablation; about 1e-7 in float32, 1e-3 in bfloat16; infinite where the model gives no number.
    """
    context = folded(model, ablation) if fold else intervening(model, [ablation])
    batch = model.batch(model.render(instructions) if token_ids is None else token_ids)
    real = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
    cache = DynamicCache(config=model.hf.config)
    with context, _reading(model, ablation) as seen:
        seen.mask = real.bool()
        logits = model.hf(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            logits_to_keep=LAST,
            **holding(model.hf, cache),
        ).logits
        seen.mask = None
        mask = torch.cat([real, real.new_ones(real.shape[0], 1)], 1)
        model.hf(
            input_ids=logits[:, -1:].argmax(-1),
            attention_mask=mask,
            position_ids=batch.position_ids[:, -1:] + 1,
            **holding(model.hf, cache),
        )
    return max(share if share == share else float("inf") for share in seen.shares)  # noqa: PLR0124 (NaN is no small leak)


class _Seen:
    """What the readers saw: one share for each reading; `mask` marks the real tokens of a prefill."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.mask: Tensor | None = None


@contextmanager
def _reading(model: LensModel, ablation: Ablation) -> Generator[_Seen, None, None]:
    seen = _Seen()

    def note(layer: int, _module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
        hidden = hidden_input(arguments, keywords)
        assert hidden is not None, "readers are called with activations"
        wide = hidden.float().reshape(-1, model.d_model)
        if seen.mask is not None:
            wide = wide[seen.mask.reshape(-1)]
        target = ablation.target_at(layer)
        along = (wide @ ablation.unit.to(wide.device) - (0.0 if target is None else float(target))).abs()
        seen.shares.append(float((along / wide.norm(dim=-1).clamp_min(1e-12)).max()))

    with ExitStack() as stack:
        for layer, reader in model.layout.readers:
            stack.callback(reader.register_forward_pre_hook(partial(note, layer), with_kwargs=True).remove)
        yield seen
