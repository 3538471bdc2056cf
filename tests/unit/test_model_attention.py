"""Attention over few tokens by two products against torch's own, and left to transformers wherever it would not be the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from refusal_lens.model import attention
from refusal_lens.model.attention import short_attention


def _shaped(
    rows: int, heads: int, shared: int, seq: int, columns: int, width: int = 8
) -> tuple[nn.Module, list[Tensor]]:
    module = nn.Module()
    module.num_key_value_groups = heads // shared  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, seq, heads), (rows, columns, shared), (rows, columns, shared))
    return module, [torch.randn(*shape, width, generator=generator).transpose(1, 2) for shape in shapes]


def _masks(seq: int, columns: int) -> dict[str, Tensor | None]:
    sees = torch.ones(seq, columns, dtype=torch.bool).tril(columns - seq)[None, None]
    return {"bool": sees, "float": torch.zeros(sees.shape).masked_fill(~sees, torch.finfo(torch.float32).min)}


@pytest.fixture
def delegated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every call that went to transformers' own function."""
    calls: list[int] = []
    own = attention._own

    def counted(*given: object, **named: object) -> object:
        calls.append(1)
        return own(*given, **named)

    monkeypatch.setattr(attention, "_own", counted)
    return calls


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize(("seq", "columns"), [(5, 5), (3, 9), (2, 2)])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_two_products_are_the_attention_of_torch(
    heads: int, shared: int, seq: int, columns: int, mask: str, scaling: float | None, delegated: list[int]
) -> None:
    module, (query, key, value) = _shaped(3, heads, shared, seq, columns)
    given = {"none": None, **_masks(seq, columns)}[mask]
    with short_attention():
        found, weights = ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, given, scaling=scaling)
    repeated = [one.repeat_interleave(heads // shared, dim=1) for one in (key, value)]
    causal = torch.ones(seq, columns, dtype=torch.bool).tril() if given is None else given
    wanted = scaled_dot_product_attention(query, *repeated, attn_mask=causal, scale=scaling).transpose(1, 2)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=2e-6)
    assert weights is None
    assert bool(delegated) == (mask == "none" and seq != columns), "transformers reads the first columns only there"


def _padded(seq: int) -> Tensor:
    mask = torch.ones(3, 1, seq, seq, dtype=torch.bool).tril()
    mask[1, :, :, :2] = False
    return mask


@pytest.mark.parametrize(
    ("shape", "mask", "keywords"),
    [
        ((3, 4, 2, 5, 5), _padded, {}),
        ((3, 4, 2, 46, 46), None, {}),
        ((3, 4, 2, 1, 9), None, {}),
        ((3, 4, 4, 5, 5), None, {"dropout": 0.5}),
        ((3, 4, 4, 5, 5), None, {"position_bias": torch.randn(1, 4, 5, 5)}),
    ],
    ids=["padding", "long", "one token", "dropout", "position bias"],
)
def test_everything_else_is_left_to_transformers(
    shape: tuple[int, ...], mask: Callable[[int], Tensor] | None, keywords: dict[str, object], delegated: list[int]
) -> None:
    module, given = _shaped(*shape)
    seen = None if mask is None else mask(shape[3])
    torch.manual_seed(1)
    wanted = ALL_ATTENTION_FUNCTIONS["sdpa"](module, *given, seen, **keywords)[0]
    torch.manual_seed(1)
    with short_attention():
        found = ALL_ATTENTION_FUNCTIONS["sdpa"](module, *given, seen, **keywords)[0]
    assert delegated == [1]
    assert torch.equal(found, wanted)


def test_the_context_leaves_nothing_behind() -> None:
    own = ALL_ATTENTION_FUNCTIONS["sdpa"]
    with pytest.raises(ZeroDivisionError), short_attention(), short_attention():
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not own
        raise ZeroDivisionError
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is own
