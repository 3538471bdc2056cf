"""Matrices arranged for a CPU: the same numbers, in another order in memory; heads that share theirs are turned instead."""

from __future__ import annotations

import torch
import transformers as hf

from refusal_lens.model.products import FEW, arrange_for_cpu

SHAPE = {"vocab_size": 90, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def _network(*, tied: bool) -> hf.PreTrainedModel:
    torch.manual_seed(0)
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(**SHAPE, num_key_value_heads=1, tie_word_embeddings=tied)).eval()


def test_arranged_matrices_hold_the_same_numbers_and_give_the_same_logits() -> None:
    for tied in (True, False):
        network = _network(tied=tied)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        rows = torch.arange(3 * len(FEW)).reshape(len(FEW), 3) % 90
        with torch.no_grad():
            wanted = [network(rows[:count]).logits for count in (1, 5, len(FEW))]
            arrange_for_cpu(network)
            found = [network(rows[:count]).logits for count in (1, 5, len(FEW))]
        for one, two in zip(wanted, found, strict=True):
            assert torch.allclose(one, two, atol=1e-6)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert network.model.layers[0].mlp.up_proj.weight.stride() == (1, 24)
        assert network.lm_head.weight.stride() == ((16, 1) if tied else (1, 90))
        assert network.model.embed_tokens.weight.is_contiguous(), "embeddings read rows"


def test_sixteen_bit_weights_stay_as_they_are() -> None:
    network = _network(tied=False).to(torch.bfloat16)
    arrange_for_cpu(network)
    assert all(weight.is_contiguous() for weight in network.parameters())
