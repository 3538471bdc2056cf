"""How blocks are called, learnt from passes whose blocks do nothing, against what ordinary passes hand to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import tiny_models
from refusal_lens.directions.batched import BatchedPasses, Pair
from refusal_lens.directions.passes import PrefixCachePasses, passes_for
from refusal_lens.directions.prefix_calls import Calls
from refusal_lens.model import LensModel, ModelProvenance, assemble

BEFORE = [5, 6, 7, 8, 9]
SEGMENTS = [([11, 12, 13], []), ([14] * 20, []), ([11, 12], BEFORE), ([15] * 18, BEFORE), ([3, 4, 5], BEFORE[:2])]


def _assembled(network: nn.Module) -> LensModel:
    provenance = ModelProvenance("test", None, "", type(network).__name__, "float32", "cpu", "")
    return assemble(network, tiny_models.tokenizer(), provenance=provenance)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gpt2", "mixtral", "falcon", "olmo2", "qwen2", "phi3"])
def test_blocks_that_do_nothing_are_handed_what_blocks_that_run_are(name: str) -> None:
    model = _assembled(tiny_models.network(name))
    calls = Calls(model)
    found = [calls.watch(tokens, before) for tokens, before in SEGMENTS]
    cheap = name != "falcon"  # its blocks return more than activations, so they are watched at work
    assert calls._idle == {False: cheap, True: cheap}
    for (tokens, before), call in zip(SEGMENTS, found, strict=True):
        assert call.equals(Calls(model)._observed(tokens, before, idle=False))
        assert len(call.keywords) == model.n_layers
    for block in model.layout.blocks:
        assert "forward" not in vars(block.module), "nothing is left in place"
        assert not block.module._forward_pre_hooks


def test_a_block_whose_arguments_depend_on_blocks_before_it_is_watched_at_work() -> None:
    """Here every block but the first is told the mean of its input, as a model with gates between blocks does."""
    network = tiny_models.network("llama")
    model = _assembled(network)
    for block in list(network.model.layers)[1:]:

        class Told(type(block)):  # type: ignore[misc]
            def __call__(self, hidden: torch.Tensor, *given: Any, **named: Any) -> Any:
                return super().__call__(hidden, *given, told=hidden.mean(), **named)

        block.__class__ = Told
    calls = Calls(model)
    found = [calls.watch(tokens, before) for tokens, before in SEGMENTS]
    assert calls._idle == {False: False, True: False}
    assert found[0].keywords[2]["told"] != found[1].keywords[2]["told"]


def test_passes_of_a_sweep_are_alike_and_hold_what_stays_in_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _assembled(tiny_models.network("llama"))
    ids = model.render(["Tell me a story", "Tell me a story about cats", "What is seven?", "Tell me"])
    passes = passes_for(model, ids)
    assert isinstance(passes, PrefixCachePasses)
    ran: list[tuple[int, int]] = []
    walk = passes._walker.walk
    monkeypatch.setattr(
        passes._walker, "walk", lambda some, *a, **k: (ran.append((len(some), k["tokens"])), walk(some, *a, **k))[1]
    )
    mean = sum(map(len, ids)) / 4
    count = int(2.1 * 1280 / mean)
    vectors = torch.randn(count, model.d_model, generator=torch.Generator().manual_seed(1))
    passes.ablated(
        vectors, [Pair(candidate, prompt) for candidate in range(count) for prompt in range(4)], lambda _: None
    )
    assert [tokens for _, tokens in ran] == [1280] * 3
    sizes = [some for some, _ in ran]
    assert sum(sizes) == count and max(sizes) - min(sizes) <= 2
    assert max(sizes) * mean <= 1280


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_unchanged_logits_come_from_what_was_recorded(name: str) -> None:
    model = _assembled(tiny_models.network(name))
    ids = model.render(["Tell me a story", "Tell me a story about cats", "What is seven?", "Tell me"])
    fast = passes_for(model, ids)
    assert isinstance(fast, PrefixCachePasses)
    wanted = BatchedPasses(model, ids).plain()
    assert (fast.plain() - wanted).abs().max() <= 1e-5 * wanted.abs().max()
