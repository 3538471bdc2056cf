"""The self-checks find what they look for: each breaks something for real and must be told."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

import tiny_models
from refusal_lens.config import AuditConfig
from refusal_lens.errors import ModelError
from refusal_lens.interventions import Ablation, Addition, check_model, doctor, require_sound, residual_leak
from refusal_lens.model import (
    PROBES,
    LensModel,
    ModelProvenance,
    assemble,
    fold_plan,
    generate,
    load_model,
    next_token_logits,
    record,
)
from refusal_lens.model.checks import check_located
from refusal_lens.model.layout import locate
from refusal_lens.pipeline.provenance import header_of_checks
from refusal_lens.pipeline.worker import load_audited


def _assembled(network: nn.Module) -> LensModel:
    provenance = ModelProvenance("test", None, "", type(network).__name__, "float32", "cpu", "")
    return assemble(network, tiny_models.tokenizer(), provenance=provenance)  # type: ignore[arg-type]


def test_a_shifted_layer_is_noticed() -> None:
    model = _assembled(tiny_models.network("llama"))
    check_located(model)
    object.__setattr__(model.layout, "blocks", model.layout.blocks[1:])
    with pytest.raises(ModelError, match="located wrongly"):
        check_located(model)


def test_a_direction_that_stays_is_noticed() -> None:
    model = _assembled(tiny_models.network("llama"))
    blocks = list(model.layout.blocks)
    leaky = type(blocks[1])(**{**vars(blocks[1]), "mlp_write": ()})
    object.__setattr__(model.layout, "blocks", (blocks[0], leaky, *blocks[2:]))
    found = doctor(model)
    assert not found.ok
    assert found.residual_leak > 1e-3
    assert "no reader sees an ablated direction" in {check.name for check in found.checks if not check.ok}
    assert not fold_plan(model).exact, "a plan that does not agree with the hooks is not trusted"


def test_dynamically_quantised_weights_use_hooks() -> None:
    network = tiny_models.network("llama")
    quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    model = _assembled(quantised)
    assert type(model.layout.blocks[0].mlp[0].down_proj).__module__.startswith("torch.ao"), "weights are quantised"
    assert not fold_plan(model).exact
    ablation = Ablation(torch.randn(model.d_model, generator=torch.Generator().manual_seed(1)))
    assert residual_leak(model, ablation) <= 1e-5
    answers = generate(model, ["Tell me", "What is seven?"], max_new_tokens=4, interventions=[ablation])
    assert [len(answer.token_ids) for answer in answers] == [4, 4]


def test_a_declared_quantisation_is_enough_for_hooks() -> None:
    model = _assembled(tiny_models.network("qwen2"))
    model.hf.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    assert fold_plan(model).why_not == "weights are quantised"


def test_half_precision_leaks_only_rounding(tmp_path: Path) -> None:
    model = load_model(str(tiny_models.build("olmo2", tmp_path / "m")), dtype="bfloat16")
    found = doctor(model)
    assert found.ok, [check for check in found.checks if not check.ok]
    assert 1e-5 < found.residual_leak < 2e-2
    assert model.provenance.dtype == "bfloat16"


def test_what_is_no_decoder_is_refused() -> None:
    network = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10))
    with pytest.raises(ModelError, match="no stack of decoder blocks"):
        locate(network, lambda: network(torch.tensor([[1, 2]])), n_layers=None)


def test_recording_stops_at_the_last_block_and_streams() -> None:
    model = _assembled(tiny_models.network("llama"))
    ran: list[int] = []
    handles = [
        block.module.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        for layer, block in enumerate(model.layout.blocks)
    ]
    parts = list(record(model, ["Tell me", "What is seven?", "A"], batch_size=1))
    for handle in handles:
        handle.remove()
    assert ran == [0, 1] * 3, "the last block's work is never done"
    assert [len(rows) for rows, _ in parts] == [1, 1, 1]
    assert sorted(row for rows, _ in parts for row in rows) == [0, 1, 2]


def _deep_llama(*, huge_positions: bool = True) -> LensModel:
    """Twelve blocks in bfloat16; positions of very large norm, as the first tokens of real models have them."""
    config = tiny_models.network("llama").config
    config.num_hidden_layers = 12
    torch.manual_seed(0)
    network = transformers.LlamaForCausalLM(config)
    if huge_positions:
        with torch.no_grad():
            network.get_input_embeddings().weight[1] *= 300.0
    return _assembled(network.to(torch.bfloat16))


@pytest.mark.parametrize("fold", [False, True])
def test_low_precision_does_not_bring_an_ablated_direction_back_where_norms_are_huge(fold: bool) -> None:
    model = _deep_llama()
    for seed in range(3):
        direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))
        published = residual_leak(model, Ablation(direction, variant="published"))
        assert residual_leak(model, Ablation(direction), fold=fold) <= 1.25 * published + 2**-10


def test_low_precision_is_sound_by_doctor_where_norms_are_huge() -> None:
    found = doctor(_deep_llama())
    assert found.ok, [check for check in found.checks if not check.ok]
    assert found.folding == "exact"


@pytest.mark.parametrize("ablation_first", [True, False])
def test_what_an_addition_brings_along_an_ablated_direction_is_seen_by_nobody(ablation_first: bool) -> None:
    """The oracle uses nothing of ours: every norm of a plain Llama reads x - (x.r) r, one block's input has v added."""
    model = _assembled(tiny_models.network("llama"))
    generator = torch.Generator().manual_seed(1)
    ablated, other = torch.randn(2, model.d_model, generator=generator)
    added = 2 * ablated + other
    pair = [Ablation(ablated), Addition(added, layer=1)]
    found = next_token_logits(model, ["Tell me"], interventions=pair if ablation_first else pair[::-1])
    along = next_token_logits(
        model,
        ["Tell me"],
        interventions=[Addition(9 * ablated, layer=1), Ablation(ablated)][:: 1 if ablation_first else -1],
    )
    nothing_added = next_token_logits(model, ["Tell me"], interventions=[Ablation(ablated)])

    network = model.hf
    r = ablated / ablated.norm()
    norms = [norm for block in network.model.layers for norm in (block.input_layernorm, block.post_attention_layernorm)]
    for norm in [*norms, network.model.norm]:
        norm.register_forward_pre_hook(lambda _, given: (given[0] - (given[0] @ r)[..., None] * r,))
    network.model.layers[1].register_forward_pre_hook(
        lambda _, given, named: ((given[0] + added,), named), with_kwargs=True
    )
    expected = network(torch.tensor(model.render(["Tell me"]))).logits[:, -1]
    assert torch.allclose(found, expected, atol=2e-4)
    assert torch.allclose(along, nothing_added, atol=2e-5), "along the ablated direction alone nothing is added"
    assert not torch.allclose(found, nothing_added, atol=1e-2), "the rest of the addition acts"


def _bidirectional() -> dict[str, Callable[[], nn.Module]]:
    small = {"vocab_size": tiny_models.VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    bert = {**small, "intermediate_size": 48, "initializer_range": 0.15}
    llama = tiny_models.network("llama").config

    def no_mask() -> nn.Module:
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**llama.to_dict(), "is_causal": False}))

    return {
        "bert as saved by default": lambda: transformers.BertLMHeadModel(transformers.BertConfig(**bert)),
        "is_causal false": no_mask,
    }


@pytest.mark.parametrize("name", ["bert as saved by default", "is_causal false"])
def test_a_model_that_is_not_causal_is_found_and_stops(name: str) -> None:
    torch.manual_seed(0)
    model = _assembled(_bidirectional()[name]())
    ids = torch.tensor(model.render(["Tell me"]))
    other = ids.clone()
    other[0, -1] = 5
    one, two = (model.hf(row, use_cache=False).logits[0, 0] for row in (ids, other))
    assert float((one - two).abs().max()) > 1e-3, "the first position really sees the last token"
    assert not doctor(model).ok
    with pytest.raises(ModelError, match=r"no position sees later tokens.*--accept-inexact"):
        require_sound(model)
    assert not require_sound(model, accept_inexact=True).ok
    assert not math.isnan(check_model(model).causality_error)


def test_a_recurrence_that_reads_padding_stops() -> None:
    config = transformers.RecurrentGemmaConfig(
        vocab_size=tiny_models.VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        lru_width=32,
        attention_window_size=32,
        block_types=["recurrent", "recurrent", "attention"],
    )
    torch.manual_seed(0)
    network = transformers.RecurrentGemmaForCausalLM(config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    model = _assembled(network)
    prompts = ["Tell me", "Tell me a story about cats and dogs"]
    alone = model.hf(torch.tensor(model.render(prompts[:1])), use_cache=False).logits[0, -1]
    beside = next_token_logits(model, prompts)[0]
    assert float((alone - beside).abs().max()) > 1e-2, "padding really changes the shorter prompt's logits"
    with pytest.raises(ModelError, match="padding changes no logit"):
        require_sound(model)


def test_a_model_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _assembled(tiny_models.network("llama"))
    found = check_model(model)
    assert found.ok
    assert found.folded_leak is not None
    assert found.folded_leak <= 1e-5
    monkeypatch.setattr(model.hf, "forward", None)
    assert check_model(model) is found


def test_of_a_long_system_prompt_the_checks_read_only_the_ends() -> None:
    model = _assembled(tiny_models.network("llama"))
    plain, short = model.render(PROBES), model.probes(len(PROBES))
    model.tokenizer.chat_template = "A sober assistant that answers in few words. " + tiny_models.TEMPLATE
    long = model.render(PROBES)
    assert len(long[0]) > len(plain[0]) + 20
    cut = model.probes(4)
    assert [ids[:4] for ids in cut] == [ids[:4] for ids in long[:4]]
    common = next(place for place, tokens in enumerate(zip(*long, strict=False)) if len(set(tokens)) > 1)
    assert [ids[4:] for ids in cut] == [ids[common - 4 :] for ids in long[:4]]
    assert len({len(ids) for ids in cut}) > 1, "padding takes part"
    assert all(len(ids) <= len(own) and ids[-4:] == own[-4:] for ids, own in zip(short, plain, strict=True))


def test_a_model_is_measured_in_eighteen_passes_and_its_weights_are_folded_three_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Padding 5, causality 1, a direction 1, what two ablations leave 4 by hooks and 4 folded, the proof of folding 3."""
    model = _assembled(tiny_models.network("llama"))
    ran: list[int] = []
    forward = model.hf.forward
    monkeypatch.setattr(model.hf, "forward", lambda *given, **named: (ran.append(1), forward(*given, **named))[1])
    folds: list[int] = []
    module = importlib.import_module("refusal_lens.model.folding")  # the package has a function of that name
    without = module._without
    monkeypatch.setattr(module, "_without", lambda *given, **named: (folds.append(1), without(*given, **named))[1])
    assert check_model(model).ok
    assert len(ran) <= 18
    assert len(folds) == 3 * len(fold_plan(model).written)


def test_an_audit_does_not_load_a_model_that_fails_its_checks(tmp_path: Path) -> None:
    folder = tiny_models.build("llama", tmp_path / "m")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "is_causal": False}), encoding="utf-8")

    def asked(*, accepted: bool) -> AuditConfig:
        wanted = {"spec": str(folder), "accept_inexact": accepted}
        return AuditConfig.model_validate({"model": wanted, "data": {"languages": ["en"]}})

    with pytest.raises(ModelError, match="later tokens"):
        load_audited(asked(accepted=False))
    header = header_of_checks(check_model(load_audited(asked(accepted=True))))
    assert "later tokens" in str(header["inexact"])
    assert isinstance(header["causality_error"], float)
