"""What users have on disk besides plain folders: adapters, GGUF files, other kinds of models, and files that are no model."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import copy, copytree

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from transformers import DynamicCache
from transformers.cache_utils import LinearAttentionAndFullAttentionLayer

import tiny_models
from refusal_lens.errors import ModelError
from refusal_lens.interventions import doctor
from refusal_lens.model import (
    Engine,
    LensModel,
    check_source,
    fingerprint,
    generate,
    identify,
    load_model,
    next_token_logits,
    too_long,
)
from refusal_lens.model.cache import keep_rows
from refusal_lens.model.outline import outline

PROMPTS = ["What is 7 + 5?", "Tell me a story"]
TEXT = tiny_models._LLAMA


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("llama", tmp_path_factory.mktemp("models") / "base")


def _adapter(folder: Path, base: Path, named: str, *, dora: bool = False) -> dict[str, torch.Tensor]:
    """Write an adapter for a base; the merged weights, computed here: W + (alpha / r) B A, rescaled by columns for DoRA."""
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    lora, merged = {}, load_file(base / "model.safetensors")
    for layer in range(tiny_models.LAYERS):
        for part in ("q_proj", "v_proj"):
            name = f"model.layers.{layer}.self_attn.{part}"
            weight = merged[f"{name}.weight"]
            a, b = (torch.randn(shape, generator=generator) for shape in ((4, 32), (weight.shape[0], 4)))
            lora[f"base_model.model.{name}.lora_A.weight"], lora[f"base_model.model.{name}.lora_B.weight"] = a, b
            changed = weight + 4.0 * b @ a
            if dora:
                magnitude = weight.norm(dim=1) * 1.5
                lora[f"base_model.model.{name}.lora_magnitude_vector"] = magnitude
                changed = changed / changed.norm(dim=1, keepdim=True) * magnitude[:, None]
            merged[f"{name}.weight"] = changed
    save_file(lora, folder / "adapter_model.safetensors", {"format": "pt"})
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    more = {"base_model_name_or_path": named, "task_type": "CAUSAL_LM", "use_dora": dora}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **more}))
    return merged


def _merged(base: Path, weights: dict[str, torch.Tensor], folder: Path) -> LensModel:
    copytree(base, folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return load_model(str(folder))


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("where", ["beside", "apart", "apart, named from the adapter"])
def test_an_adapter_is_merged(where: str, dora: bool, base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    if where == "beside":
        copytree(base, folder)
    copytree(base, tmp_path / "its base")
    named = "../its base" if where == "apart, named from the adapter" else str(base)
    right = _merged(base, _adapter(folder, base, named, dora=dora), tmp_path / "merged")
    check_source(str(folder))
    model = load_model(str(folder))
    torch.testing.assert_close(next_token_logits(model, PROMPTS), next_token_logits(right, PROMPTS), rtol=0, atol=2e-4)
    assert (
        float((next_token_logits(model, PROMPTS) - next_token_logits(load_model(str(base)), PROMPTS)).abs().max()) > 0.1
    )
    assert doctor(model).folding == "exact", "merged weights are plain weights"
    assert model.provenance.adapter is not None
    assert str(folder) in model.provenance.adapter
    assert model.provenance.digest == fingerprint(str(folder)) == identify(model) != fingerprint(str(base))


def test_an_adapters_digest_follows_adapter_and_base(base: Path, tmp_path: Path) -> None:
    own = Path(copytree(base, tmp_path / "own"))
    _adapter(tmp_path / "adapter", own, str(own))
    first = fingerprint(str(tmp_path / "adapter"))
    weights = load_file(own / "model.safetensors")
    weights["model.norm.weight"] += 0.5
    save_file(weights, own / "model.safetensors", {"format": "pt"})
    second = fingerprint(str(tmp_path / "adapter"))
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 8}))
    assert len({first, second, fingerprint(str(tmp_path / "adapter"))}) == 3


def test_an_adapter_brings_its_own_tokenizer_and_template(base: Path, tmp_path: Path) -> None:
    _adapter(tmp_path / "adapter", base, str(base))
    plain = load_model(str(tmp_path / "adapter"))
    tiny_models.tokenizer().save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter/chat_template.jinja").write_text("Answer: " + tiny_models.TEMPLATE)
    own = load_model(str(tmp_path / "adapter"))
    assert plain.tokenizer.chat_template == tiny_models.TEMPLATE
    assert own.tokenizer.decode(own.render(PROMPTS[:1])[0]).startswith("Answer: ")


@pytest.mark.parametrize("beside", [True, False])
def test_without_peft_an_adapter_is_refused(
    beside: bool, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "adapter"
    if beside:
        copytree(base, folder)
    _adapter(folder, base, str(base))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    for look in (load_model, check_source):
        with pytest.raises(ModelError, match=r"needs the package peft: pip install 'refusal-lens\[adapters\]'"):
            look(str(folder))


ADAPTER_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "only pickled adapter weights",
    ),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "no adapter_model.safetensors"),
    "cut off": (lambda f: (f / "adapter_model.safetensors").write_bytes(b"x" * 20), "damaged or cut off"),
    "no base named": (lambda f: _set(f, base_model_name_or_path=None), "names no base_model_name_or_path"),
    "base gone": (lambda f: _set(f, base_model_name_or_path="/nowhere/base"), "its base model was not found"),
    "its own base": (lambda f: _set(f, base_model_name_or_path=str(f)), "is an adapter too"),
    "other rank": (lambda f: _set(f, r=8), "cannot be merged"),
    "another model's": (lambda f: _set(f, target_modules=["q_proj"]), "does not belong to its base"),
    "prompt tuning": (
        lambda f: _set(f, peft_type="PROMPT_TUNING", num_virtual_tokens=4),
        "cannot be merged|does not belong",
    ),
}


def _set(folder: Path, **changes: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("fault", ADAPTER_FAULTS)
def test_an_adapter_that_cannot_be_merged_is_refused(fault: str, base: Path, tmp_path: Path) -> None:
    _adapter(tmp_path / "adapter", base, str(base))
    damage, message = ADAPTER_FAULTS[fault]
    damage(tmp_path / "adapter")
    with pytest.raises(ModelError, match=message) as raised:
        load_model(str(tmp_path / "adapter"))
    assert "\n" not in str(raised.value)


def _gguf(file: Path, base: Path) -> Path:
    """A Qwen2 folder as a GGUF file, matrices in 8 bits where their rows allow it."""
    gguf = pytest.importorskip("gguf")
    config, weights = json.loads((base / "config.json").read_text()), load_file(base / "model.safetensors")
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(str(file), "qwen2")
    writer.add_block_count(tiny_models.LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(tiny_models.WIDTH)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    words = [word for word, _ in sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])]
    special = {token["id"] for token in tokenizer["added_tokens"]}
    spare = tiny_models.VOCABULARY - len(words)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*words, *(f"<unused{number}>" for number in range(spare))])
    writer.add_token_types([*(3 if index in special else 1 for index in range(len(words))), *[5] * spare])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(tiny_models.END)
    writer.add_pad_token_id(tiny_models.PAD)
    writer.add_chat_template(tiny_models.TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, tiny_models.LAYERS)
    for name, weight in weights.items():
        kind = (
            gguf.GGMLQuantizationType.Q8_0
            if weight.ndim == 2 and weight.shape[1] % 32 == 0
            else gguf.GGMLQuantizationType.F32
        )
        packed = gguf.quants.quantize(weight.float().numpy(), kind)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_gguf_file_is_dequantised(tmp_path: Path) -> None:
    base = tiny_models.build("qwen2", tmp_path / "base")
    (tmp_path / "only").mkdir()
    file = _gguf(tmp_path / "only/model.Q8_0.gguf", base)
    check_source(str(file))
    plain, model = load_model(str(base)), load_model(str(file))
    assert model.render(PROMPTS) == plain.render(PROMPTS)
    assert model.tokenizer.chat_template == tiny_models.TEMPLATE
    right, found = next_token_logits(plain, PROMPTS), next_token_logits(model, PROMPTS)
    assert 0 < float((found - right).abs().max()) < 0.05 * float(right.abs().max()), "8 bits, not another model"
    assert model.provenance.stored == "GGUF (Q8_0, F32), dequantised"
    assert doctor(model).ok
    assert doctor(model).folding == "exact"
    in_folder = load_model(str(file.parent))
    torch.testing.assert_close(next_token_logits(in_folder, PROMPTS), found, rtol=0, atol=0)
    assert model.provenance.digest == in_folder.provenance.digest == fingerprint(str(file)) == identify(model)
    assert outline(str(file), PROMPTS).n_layers == tiny_models.LAYERS
    assert outline(str(file), PROMPTS).parameters > 10_000
    assert outline(str(file), PROMPTS).key_width == tiny_models.WIDTH // 4 * 2, "2 of 4 heads keep keys"
    assert generate(model, PROMPTS, max_new_tokens=4)[0].token_ids


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"GGUF\x03\0\0\0" + b"\0" * 64, "model.gguf", "names no architecture"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 64, "model.gguf", "damaged or cut off"),
        (b"no model at all", "model.gguf", "is no GGUF file"),
        (b"GGUF", "model-00001-of-00003.gguf", "one part of a split GGUF file"),
    ],
)
def test_a_broken_gguf_file_is_named(content: bytes, name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    for spec in (tmp_path / name, tmp_path):
        with pytest.raises(ModelError, match=message):
            check_source(str(spec))


def test_without_its_reader_a_gguf_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\0\0\0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"refusal-lens\[gguf\]"):
        load_model(str(tmp_path))


def test_of_several_gguf_files_one_must_be_named(tmp_path: Path) -> None:
    for name in ("Q4_0.gguf", "Q8_0.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"2 GGUF files: name one of them \(Q4_0.gguf, Q8_0.gguf\)"):
        load_model(str(tmp_path))


def _file(name: str, content: bytes = b"x") -> Callable[[Path, Path], Path]:
    def make(folder: Path, _base: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _inside(name: str, content: bytes = b"x") -> Callable[[Path, Path], Path]:
    return lambda folder, base: _file(name, content)(folder, base).parent


def _zip(folder: Path, base: Path) -> Path:
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.write(base / "config.json", "config.json")
    return folder / "model.zip"


def _checkpoints(folder: Path, base: Path) -> Path:
    copytree(base, folder / "checkpoint-100")
    return folder


def _changed(**config: object) -> Callable[[Path, Path], Path]:
    def make(folder: Path, base: Path) -> Path:
        copytree(base, folder / "model")
        file = folder / "model/config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
        return folder / "model"

    return make


def _old_gptq(folder: Path, base: Path) -> Path:
    copytree(base, folder / "model")
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.0.self_attn.q_proj.weight"]
    weights["model.layers.0.self_attn.q_proj.qweight"] = torch.zeros(4, 32, dtype=torch.int32)
    save_file(weights, folder / "model/model.safetensors", {"format": "pt"})
    (folder / "model/quantize_config.json").write_text('{"bits": 4, "group_size": 128}')
    return folder / "model"


def _legacy_template(folder: Path, base: Path) -> Path:
    copytree(base, folder / "model")
    (folder / "model/chat_template.jinja").unlink()
    (folder / "model/chat_template.json").write_text(json.dumps({"chat_template": tiny_models.TEMPLATE}))
    return folder / "model"


NO_MODEL: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "Parquet": (_file("prompts.parquet", b"PAR1"), "is a table, not a model"),
    "Parquet without a suffix": (_file("prompts", b"PAR1....PAR1"), "is a table, not a model"),
    "CSV": (_file("prompts.csv"), "is a table, not a model"),
    "zip": (_zip, "is an archive: unpack it"),
    "safetensors file": (lambda _, base: base / "model.safetensors", "is weights alone.* name the folder"),
    "pickled file": (_file("pytorch_model.bin"), "pickled weights, which can run code"),
    "configuration": (lambda _, base: base / "config.json", "is a file; name the folder"),
    "ONNX": (_file("model.onnx"), "ONNX export"),
    "folder of Parquet": (_inside("train.parquet"), "is a data set .*not a model"),
    "folder of checkpoints": (_checkpoints, r"name one of them \(checkpoint-100\)"),
    "empty folder": (lambda folder, _: folder, "is an empty folder"),
    "maker's layout": (_inside("params.json", b"{}"), "in their maker's own layout"),
    "weights without configuration": (_inside("model.safetensors"), "weights .*but no config.json"),
    "pipeline": (_inside("model_index.json", b"{}"), "pipeline of several models"),
    "old GPTQ": (_old_gptq, "packed by GPTQ or AWQ.*quantize_config.json beside it is the old layout"),
    "MLX": (_changed(quantization={"bits": 4, "group_size": 64}), "quantised by MLX"),
    "unknown quantisation": (_changed(quantization_config={"quant_method": "nonesuch"}), r"not know \(nonesuch\)"),
    "GPTQ": (_changed(quantization_config={"quant_method": "gptq", "bits": 4}), r"is quantised \(gptq\).*optimum"),
    "template of a processor": (_legacy_template, "--chat-template .*chat_template.json"),
    "classifier": (_changed(architectures=["LlamaForSequenceClassification"]), "is a classifier"),
}


@pytest.mark.parametrize("kind", NO_MODEL)
def test_what_is_no_model_is_refused_by_its_true_reason(kind: str, base: Path, tmp_path: Path) -> None:
    make, message = NO_MODEL[kind]
    with pytest.raises(ModelError, match=message) as raised:
        load_model(str(make(tmp_path, base)))
    assert "\n" not in str(raised.value)


def test_the_template_of_a_processor_can_be_given(base: Path, tmp_path: Path) -> None:
    folder = _legacy_template(tmp_path, base)
    assert load_model(str(folder), chat_template=folder / "chat_template.json").positions


def _t5() -> hf.PreTrainedModel:
    return hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=400, d_model=32, d_kv=8, d_ff=56, num_layers=3, num_heads=4)
    )


def _bert(family: type[hf.PreTrainedModel]) -> Callable[[], hf.PreTrainedModel]:
    return lambda: family(hf.BertConfig(**tiny_models._COMMON, num_attention_heads=4))


def _gemma4(**more: object) -> Callable[[], hf.PreTrainedModel]:
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    plain = {**TEXT, "num_hidden_layers": 4, "head_dim": 8, "global_head_dim": 8, "sliding_window": 16}
    none = {"layer_types": kinds, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0}
    return lambda: hf.Gemma4ForCausalLM(hf.Gemma4TextConfig(**{**plain, **none, **more}))


def _mamba() -> hf.PreTrainedModel:
    return hf.MambaForCausalLM(hf.MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=3, state_size=8))


def _minimax() -> hf.PreTrainedModel:
    kinds = ["linear_attention", "full_attention", "linear_attention"]
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
    return hf.MiniMaxForCausalLM(hf.MiniMaxConfig(**TEXT, **experts, head_dim=8, layer_types=kinds, block_size=8))


def _qwen3_next() -> hf.PreTrainedModel:
    kinds = ["linear_attention", "full_attention", "linear_attention"]
    heads = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    experts = {**tiny_models._EXPERTS, "shared_expert_intermediate_size": 24}
    return hf.Qwen3NextForCausalLM(hf.Qwen3NextConfig(**TEXT, **heads, **experts, head_dim=8, layer_types=kinds))


def _lfm2() -> hf.PreTrainedModel:
    kinds = ["conv", "full_attention", "conv"]
    return hf.Lfm2ForCausalLM(hf.Lfm2Config(**{**TEXT, "tie_word_embeddings": False}, layer_types=kinds))


def _hunyuan() -> hf.PreTrainedModel:
    return hf.HunYuanMoEV1ForCausalLM(hf.HunYuanMoEV1Config(**TEXT, head_dim=8, num_experts=4, moe_topk=2))


EXPERTS = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16}
PER_LAYER = {"vocab_size_per_layer_input": 400, "hidden_size_per_layer_input": 8}
OTHER_KINDS: dict[str, tuple[Callable[[], hf.PreTrainedModel], str]] = {
    "T5": (_t5, "is an encoder-decoder"),
    "BERT, masked": (_bert(hf.BertForMaskedLM), "masked language model"),
    "BERT, headless": (_bert(hf.BertModel), "without the head that writes tokens"),
    "Mamba": (_mamba, "does not write with a cache of keys and values"),
    "MiniMax": (_minimax, "does not write with a cache of keys and values"),
    "vision": (
        lambda: hf.ViTModel(
            hf.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=8)
        ),
        "is no model that writes text",
    ),
}


def _save(make: Callable[[], hf.PreTrainedModel], folder: Path) -> str:
    torch.manual_seed(0)
    network = make()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 and float(parameter.std()) < 0.05:
                parameter.normal_(0, 0.15)
            elif parameter.ndim == 1 and not name.endswith(("A_log", ".D")):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    network.save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_kinds_that_are_not_audited_say_why(kind: str, tmp_path: Path) -> None:
    make, message = OTHER_KINDS[kind]
    with pytest.raises(ModelError, match=message) as raised:
        load_model(_save(make, tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "make",
    [
        _gemma4(**PER_LAYER),
        _gemma4(**PER_LAYER, num_kv_shared_layers=2),
        _gemma4(),
        _gemma4(**EXPERTS),
        _gemma4(**EXPERTS, **PER_LAYER),
        _hunyuan,
    ],
    ids=[
        "gemma4 per-layer embeddings",
        "gemma4 shared keys",
        "gemma4",
        "gemma4 moe",
        "gemma4 moe per-layer",
        "hunyuan moe",
    ],
)
def test_narrow_parts_and_shared_keys_are_audited(make: Callable[[], hf.PreTrainedModel], tmp_path: Path) -> None:
    model = load_model(_save(make, tmp_path))
    found = doctor(model)
    assert found.ok, [check for check in found.checks if not check.ok]
    ids = torch.tensor(model.render(PROMPTS[:1]))
    own = model.hf.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=list(model.end_ids), pad_token_id=0)
    assert generate(model, PROMPTS[:1], max_new_tokens=8)[0].token_ids == tuple(own[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("make", [_qwen3_next, _lfm2])
def test_rows_leave_models_with_recurrent_layers(make: Callable[[], hf.PreTrainedModel], tmp_path: Path) -> None:
    """Found by trying architectures that the tests did not have: AttributeError as soon as one of two answers had ended."""
    model = load_model(_save(make, tmp_path))
    prompts = [*PROMPTS, "Zähle bis zehn", "What?"]
    free = [answer.token_ids for answer in generate(model, prompts, max_new_tokens=8, batch_size=1)]
    model.end_ids = tuple({ids[1 + 2 * row] for row, ids in enumerate(free)})
    found = [answer.token_ids for answer in generate(model, prompts, max_new_tokens=8)]
    assert len({len(ids) for ids in found}) > 2, "rows of this test end at different times"
    for prompt, ids in zip(prompts, found, strict=True):
        asked = torch.tensor(model.render([prompt]))
        ends = list(model.end_ids)
        own = model.hf.generate(asked, max_new_tokens=8, do_sample=False, eos_token_id=ends, pad_token_id=0)
        assert ids == tuple(own[0, asked.shape[1] :].tolist())


def test_a_layer_with_recurrent_states_beside_keys_keeps_rows_of_both() -> None:
    config = hf.Qwen3NextConfig(**TEXT, layer_types=["linear_attention", "full_attention", "linear_attention"])
    cache = DynamicCache(config=config)
    cache.layers = [LinearAttentionAndFullAttentionLayer()]
    rows = torch.arange(4.0)
    cache.layers[0].update_conv_state(rows.reshape(4, 1, 1).expand(4, 3, 2))
    cache.layers[0].update_recurrent_state(rows.reshape(4, 1, 1).expand(4, 5, 6))
    cache.update(*[rows.reshape(4, 1, 1, 1).expand(4, 2, 7, 8)] * 2, 0)
    keep_rows(cache, torch.tensor([3, 1]))
    (layer,) = cache.layers
    for kept in (layer.conv_states[0], layer.recurrent_states[0], layer.keys, layer.values):
        assert kept.reshape(2, -1).amin(1).tolist() == kept.reshape(2, -1).amax(1).tolist() == [3, 1]


def test_longrope_ends_where_a_batch_would_change_its_angles(tmp_path: Path) -> None:
    """Phi 3 and 4: a row beyond the first training's length has every row of its batch, and past tokens, read at other angles."""
    first = 40
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0}
    rope = {"rope_type": "longrope", "original_max_position_embeddings": first, **factors}

    def make() -> hf.PreTrainedModel:
        more = {"original_max_position_embeddings": first, "rope_parameters": rope}
        return hf.Phi3ForCausalLM(hf.Phi3Config(**TEXT, **more))

    model = load_model(_save(make, tmp_path))
    model.end_ids = ()
    assert model.context == first < model.hf.config.max_position_embeddings == 512
    prompts = ["What?", "Tell me a story", "Tell me"]
    lengths = [len(ids) for ids in model.render(prompts)]
    alone = [generate(model, [prompt], max_new_tokens=60)[0] for prompt in prompts]
    assert [len(answer.token_ids) for answer in alone] == [first - length for length in lengths]
    for engine in (Engine(), Engine("hf", plain=True)):
        assert generate(model, prompts, max_new_tokens=60, engine=engine) == alone
    for prompt, length, answer in zip(prompts, lengths, alone, strict=True):
        asked, limit = torch.tensor(model.render([prompt])), first - length
        own = model.hf.generate(asked, max_new_tokens=limit, do_sample=False, eos_token_id=399, pad_token_id=0)
        assert list(answer.token_ids) == own[0, length:].tolist()
    long = "Tell me a story about cats and dogs, please, and make it long, with bread in it"
    assert too_long(str(tmp_path), [*prompts, long]) == [3]
    assert f"{first} of the 512 tokens" in " ".join(doctor(model).hints)


def _scaled(base: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    copytree(base, folder)
    weights = load_file(base / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def _large_weight(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = 1e6


def _large_activations(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.1.mlp.down_proj.weight"] *= 3e4
    weights["model.layers.1.mlp.up_proj.weight"] *= 1e2


@pytest.mark.parametrize(
    ("change", "message"), [(_large_weight, "beyond float16"), (_large_activations, "overflows in float16")]
)
def test_an_overflow_in_float16_is_no_damage(
    change: Callable[[dict[str, torch.Tensor]], None], message: str, base: Path, tmp_path: Path
) -> None:
    folder = _scaled(base, tmp_path / "model", change)
    with pytest.raises(ModelError, match=message):
        load_model(folder, dtype="float16")
    load_model(folder)


def test_a_pickle_beside_a_gguf_is_not_read(tmp_path: Path, base: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    copy(base / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"model.gguf"):
        load_model(str(tmp_path))
