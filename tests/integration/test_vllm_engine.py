"""vLLM against transformers, in float32: the very same tokens; weights that come back byte for byte; honest refusals.

Skipped where vLLM is not installed (`make test-vllm` installs it beside the project's environment).
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers as hf
from tests import tiny_models
from torch import Tensor

import refusal_lens as rl
from refusal_lens import testbed
from refusal_lens.engines.proof import is_installed
from refusal_lens.engines.vllm_engine import VllmEngine
from refusal_lens.errors import ModelError

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="vLLM is not installed here: make test-vllm"),
]

LIMIT = 40


@pytest.fixture(scope="module")
def model() -> rl.LensModel:
    return rl.load_model("testbed:aligned", dtype="float32")


@pytest.fixture(scope="module")
def engine(model: rl.LensModel) -> Iterator[VllmEngine]:
    engine = VllmEngine(model)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    return [
        prompt.text
        for language in ("en", "de", "zh", "yo")
        for harm in ("harmful", "harmless")
        for prompt in testbed.load_prompts(language=language, split="test", harm=harm)[:2]
    ]


@pytest.fixture(scope="module")
def direction(model: rl.LensModel) -> Tensor:
    harmful, harmless = (
        testbed.load_prompts(language="en", split="train", harm=harm)[:32] for harm in ("harmful", "harmless")
    )
    return rl.extract(model, harmful, harmless).direction(position=-1, layer=model.n_layers // 2, source="en").vector


def test_same_tokens_untouched(model: rl.LensModel, engine: VllmEngine, prompts: list[str]) -> None:
    assert engine.generate(prompts, max_new_tokens=LIMIT) == rl.generate(model, prompts, max_new_tokens=LIMIT)


def test_same_tokens_under_an_ablation_and_weights_come_back(
    model: rl.LensModel, engine: VllmEngine, prompts: list[str], direction: Tensor
) -> None:
    untouched = engine.generate(prompts, max_new_tokens=LIMIT)
    ablation = [rl.Ablation(direction)]
    ablated = engine.generate(prompts, max_new_tokens=LIMIT, interventions=ablation)
    assert ablated == rl.generate(model, prompts, max_new_tokens=LIMIT, interventions=ablation)
    assert ablated != untouched
    assert engine.restored()
    assert engine.generate(prompts, max_new_tokens=LIMIT) == untouched


@pytest.mark.parametrize("layer", [0, 3])
def test_same_tokens_under_an_addition(
    model: rl.LensModel, engine: VllmEngine, prompts: list[str], direction: Tensor, layer: int
) -> None:
    addition = [rl.Addition(direction, layer, coefficient=-1.0)]
    added = engine.generate(prompts, max_new_tokens=LIMIT, interventions=addition)
    assert added == rl.generate(model, prompts, max_new_tokens=LIMIT, interventions=addition)
    assert added != engine.generate(prompts, max_new_tokens=LIMIT)
    assert engine.restored()


def test_rows_stop_when_decided_as_in_transformers(model: rl.LensModel, engine: VllmEngine, prompts: list[str]) -> None:
    def decided(row: int, text: str) -> bool:
        return row % 2 == 0 and bool(text)

    found = engine.generate(prompts, max_new_tokens=LIMIT, stop_when=decided)
    assert found == rl.generate(model, prompts, max_new_tokens=LIMIT, stop_when=decided)
    assert any(not answer.finished for answer in found)


def test_what_the_head_reads_has_lost_the_direction(
    model: rl.LensModel, engine: VllmEngine, prompts: list[str], direction: Tensor
) -> None:
    unit = direction / direction.norm()

    def shares(interventions: list[rl.Ablation]) -> list[float]:
        found: list[float] = []
        engine.show(
            prompts[:3], interventions, lambda _, __, read: found.append(float((read[0] @ unit).abs() / read[0].norm()))
        )
        return found

    assert min(shares([])) > 1e-3
    assert max(shares([rl.Ablation(direction)])) < 1e-5


def test_what_cannot_be_folded_is_refused_by_its_reason(engine: VllmEngine, direction: Tensor) -> None:
    ablation = rl.Ablation(direction)
    for interventions, reason in (
        ([ablation, ablation], "several interventions"),
        ([dataclasses.replace(ablation, variant="published")], "one exact ablation towards zero"),
        ([dataclasses.replace(ablation, reference=1.0)], "one exact ablation towards zero"),
        ([rl.Addition(torch.stack([direction, direction]), 1)], "direction for each row"),
    ):
        assert reason in str(engine.why_not(interventions))
        with pytest.raises(ModelError, match=reason):
            engine.generate(["Tell me a story."], interventions=interventions)
    assert engine.restored()


_SHAPE = {
    "vocab_size": tiny_models.VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,  # the narrowest head that vLLM takes on a CPU
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "bos_token_id": tiny_models.PAD,
    "eos_token_id": tiny_models.END,
    "pad_token_id": tiny_models.PAD,
}


def _started(network: hf.PreTrainedModel, folder: Path) -> tuple[rl.LensModel, VllmEngine]:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:  # gains of one and biases of zero would hide mistakes
                parameter.copy_(torch.randn_like(parameter) * 0.1 + (1.0 if "norm" in name else 0.0))
    network.save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    model = rl.load_model(str(folder), dtype="float32")
    return model, VllmEngine(model)


def test_post_norms_answer_untouched_and_never_folded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = hf.Gemma2Config(**_SHAPE, query_pre_attn_scalar=32, sliding_window=64)
    model, engine = _started(hf.Gemma2ForCausalLM(config), tmp_path)
    try:
        prompts = ["Tell me a story about cats and dogs.", "Write a poem."]
        assert engine.generate(prompts, max_new_tokens=8) == rl.generate(model, prompts, max_new_tokens=8)
        assert engine.why_not([rl.Ablation(torch.ones(model.d_model))]) is not None
    finally:
        engine.close()


def test_untied_head_and_biases(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = hf.LlamaConfig(**_SHAPE, attention_bias=True, mlp_bias=True)
    model, engine = _started(hf.LlamaForCausalLM(config), tmp_path)
    try:
        prompts = ["Tell me a story about cats and dogs.", "Write a poem.", "How do I bake bread?"]
        direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
        for change in (rl.Ablation(direction), rl.Addition(direction, 1), rl.Addition(direction, 0)):
            found = engine.generate(prompts, max_new_tokens=12, interventions=[change])
            assert found == rl.generate(model, prompts, max_new_tokens=12, interventions=[change])
        assert engine.restored()
    finally:
        engine.close()
