"""Attention over a few dozen tokens as two batched products: what a CPU's fused kernel takes twice as long for.

softmax(q k' * scale + mask) v, the heads that share keys side by side, in the activations' own format. Inside `short_attention`
it stands in for transformers' "sdpa" wherever it computes the same thing: on a CPU, several queries, few scores, no padding.
Everything else goes to transformers' own function. Models that call torch's attention themselves are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from refusal_lens.model.edit import FULL_PRECISION

FEW_SCORES = 2048
"""Scores of one head for which two products are faster: 45 x 45. At 64 x 64 both take the same time."""

Attended = tuple[Tensor, Tensor | None]
_own = cast("Callable[..., Attended]", sdpa_attention_forward)
_FUNCTIONS = cast("MutableMapping[str, Callable[..., Attended]]", ALL_ATTENTION_FUNCTIONS)


@contextmanager
def short_attention() -> Generator[None, None, None]:
    """Attention over few tokens by two products, in every model of this process while the context is open."""
    before = _FUNCTIONS["sdpa"]
    _FUNCTIONS["sdpa"] = _attend
    try:
        yield
    finally:
        _FUNCTIONS["sdpa"] = before


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **keywords: object,
) -> Attended:
    """What transformers calls: query [row, head, seq, width], key and value [row, key head, column, width]."""
    causal = attention_mask is None and (getattr(module, "is_causal", True) if is_causal is None else is_causal)
    extra = any(keywords.get(name) is not None for name in ("softcap", "position_bias", "cache", "output_attentions"))
    if extra or dropout or not _is_short(query, key, attention_mask, causal=causal):
        given = {**keywords, "dropout": dropout, "scaling": scaling, "is_causal": is_causal}
        return _own(module, query, key, value, attention_mask, **given)
    rows, heads, seq, width = query.shape
    shared, columns = key.shape[1:3]
    scores = torch.bmm(query.reshape(rows * shared, -1, width), key.reshape(-1, columns, width).transpose(1, 2))
    scores = scores.mul_(width**-0.5 if scaling is None else scaling).view(-1, heads // shared, seq, columns)
    if causal:
        attention_mask = torch.ones(seq, columns, dtype=torch.bool).tril()
    if attention_mask is not None:
        mask = attention_mask.reshape(seq, columns)
        scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores.add_(mask)
    found = torch.bmm(
        scores.softmax(dim=-1).view(rows * shared, -1, columns), value.reshape(rows * shared, columns, -1)
    )
    return found.view(rows, heads, seq, -1).transpose(1, 2).contiguous(), None


def _is_short(query: Tensor, key: Tensor, mask: Tensor | None, *, causal: bool) -> bool:
    """Whether two products do the same in less time; one mask for all rows pads none, so that no query sees nothing."""
    seq, columns = query.shape[2], key.shape[2]
    return (
        query.device.type == "cpu"
        and query.dtype in FULL_PRECISION
        and 1 < seq * columns <= FEW_SCORES
        and seq > 1
        and query.shape[1] % key.shape[1] == 0
        and (seq == columns or not causal)
        and (mask is None or tuple(mask.shape) == (1, 1, seq, columns))
    )
