"""Folders that are no usable model: each gets one message that says what is wrong, and nothing runs."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
from safetensors.torch import load_file, save_file

import tiny_models
from refusal_lens.errors import ModelError
from refusal_lens.model import check_source, load_model
from refusal_lens.model.source import model_digest


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(copytree(sound, tmp_path / "model"))


def _edit_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _poison(folder: Path, number: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][3, 5] = number
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.self_attn.o_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _whole_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor.int() for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def _lose_from_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    names = load_file(folder / "model-00001-of-00001.safetensors")
    listed = dict.fromkeys([*names, "model.layers.9.lost.weight"], "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))


def _index(folder: Path, name: str) -> None:
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": name}})
    )


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("PWNED").touch, ())


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb()))


def _remote_code(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text(
        "from pathlib import Path\nPath('PWNED').touch()\nclass Evil: pass\nclass Config: pass\n"
    )
    _edit_config(
        folder,
        model_type="evil",
        auto_map={"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Evil"},
    )


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "broken config": (lambda f: (f / "config.json").write_text("{nope"), "broken JSON|nested too deeply"),
    "deep config": (lambda f: (f / "config.json").write_text("[" * 100_000), "broken JSON|nested too deeply"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    "unknown type": (lambda f: _edit_config(f, model_type="nonesuch"), "cannot load"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "cut off": (_truncate, "damaged or cut off"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged or cut off"),
    "missing shard": (lambda f: _index(f, "model-00002-of-00002.safetensors"), "lacks 1 of 2 weight files"),
    "shard outside": (
        lambda f: (_index(f, "../outside.safetensors"), (f.parent / "outside.safetensors").touch()),
        "outside the model",
    ),
    "broken index": (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "no weight_map"),
    "missing weight": (_drop_weight, "lacks 1 weights"),
    "NaN": (lambda f: _poison(f, float("nan")), "1 of .* numbers in model.layers.1.mlp.down_proj.weight are NaN"),
    "infinite": (lambda f: _poison(f, float("inf")), "NaN or infinite"),
    "wrong shape": (lambda f: _edit_config(f, intermediate_size=57), "weights have another shape"),
    "small vocabulary": (lambda f: _edit_config(f, vocab_size=50), "weights have another shape"),
    "whole numbers": (_whole_numbers, "holds whole numbers, not fractions"),
    "tensor lost from a shard": (_lose_from_shard, "lacks 1 weights of its index"),
    "size as a text": (lambda f: _edit_config(f, hidden_size="64"), "Field 'hidden_size' expected int"),
    "no attention heads": (lambda f: _edit_config(f, num_attention_heads=0), "cannot load"),
    "fewer layers than none": (lambda f: _edit_config(f, num_hidden_layers=-1), "-1 layers"),
    "end token is a word": (
        lambda f: (f / "generation_config.json").write_text('{"eos_token_id": "stop"}'),
        "'stop' is no token id",
    ),
    "broken generation settings": (
        lambda f: (f / "generation_config.json").write_text("{nope"),
        "generation_config.json: broken JSON",
    ),
    "pickle": (_pickle, "pickled weights"),
    "remote code": (_remote_code, "pass --trust-remote-code"),
    "no tokenizer": (
        lambda f: [file.unlink() for file in f.glob("tokenizer*")],
        "no usable tokenizer|has no tokenizer",
    ),
    "no template": (lambda f: (f / "chat_template.jinja").unlink(), "--chat-template FILE"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    damage(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=message) as raised:
        load_model(str(folder))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "flaot32"}, "did you mean float32"),
        ({"dtype": "int3"}, "no dtype"),
        ({"device": "warp9"}, "no device"),
        ({"revision": "main"}, "no revision 'main'"),
    ],
)
def test_wrong_options_are_named(arguments: dict[str, str], message: str, sound: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(str(sound), **arguments)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("/nowhere/at/all", "no model folder"),
        ("./nowhere", "no model folder"),
        ("testbed:nonesuch", "no shipped model"),
        ("no-such-org/no-such-model", "no-such-org/no-such-model"),
        ("a b c", "no model"),
    ],
)
def test_unknown_names(spec: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(spec)


def test_a_file_is_no_folder(sound: Path) -> None:
    with pytest.raises(ModelError, match="name the folder"):
        load_model(str(sound / "config.json"))


def test_digest_follows_what_decides_behaviour(folder: Path) -> None:
    first = model_digest(folder)
    (folder / "README.md").write_text("a note")
    assert model_digest(folder) == first
    (folder / "chat_template.jinja").write_text(tiny_models.TEMPLATE + " ")
    second = model_digest(folder)
    assert second != first
    _poison(folder, 0.25)
    assert model_digest(folder) not in {first, second}


def test_digest_takes_the_hubs_own_name_for_a_large_file(folder: Path, tmp_path: Path) -> None:
    direct = model_digest(folder)
    weights = folder / "model.safetensors"
    blob = tmp_path / hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.rename(blob)
    weights.symlink_to(blob)
    assert model_digest(folder) == direct


def test_foreign_code_that_fails_is_named(folder: Path) -> None:
    _remote_code(folder)
    (folder / "modeling_evil.py").write_text("1 / 0\n")
    with pytest.raises(ModelError, match="division by zero"):
        load_model(str(folder), trust_remote_code=True)


@pytest.mark.parametrize("kind", ["no weights", "cut off", "no tokenizer", "no template", "whole numbers"])
def test_what_needs_no_weights_in_memory_is_found_before_them(kind: str, folder: Path) -> None:
    damage, message = DAMAGE[kind]
    damage(folder)
    with pytest.raises(ModelError, match=message):
        check_source(str(folder))
