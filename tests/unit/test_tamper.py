"""`tamper` finds a removed direction and nothing else, on tiny random models: kinds of removal, benign changes, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.errors import ModelError
from refusal_lens.tamper import Comparison, compare, open_checkpoint
from refusal_lens.tamper.behaviour import behaviour_rows
from refusal_lens.tamper.checkpoints import layer_of
from refusal_lens.tamper.removal import LEAST, find_removals
from tiny_models import ARCHITECTURES, build

RUN = CliRunner()
Weights = dict[str, Tensor]
Change = Callable[[Weights], Weights]
WIDTH, WIDE, DEPTH = 48, 80, 3


def _direction(width: int = WIDTH, seed: int = 7) -> Tensor:
    drawn = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()


def _weights(prefix: str = "model.layers") -> Weights:
    """A llama-like stack, plain Gaussian; every writer has the stream's width first, the embedding last."""
    draw = torch.Generator().manual_seed(3)

    def made(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw) * 0.05

    found = {"model.embed_tokens.weight": made(120, WIDTH), "model.norm.weight": 1 + made(WIDTH)}
    for layer in range(DEPTH):
        at = f"{prefix}.{layer}"
        found |= {
            f"{at}.self_attn.q_proj.weight": made(WIDTH, WIDTH),
            f"{at}.self_attn.o_proj.weight": made(WIDTH, WIDTH),
            f"{at}.mlp.up_proj.weight": made(WIDE, WIDTH),
            f"{at}.mlp.down_proj.weight": made(WIDTH, WIDE),
            f"{at}.input_layernorm.weight": 1 + made(WIDTH),
        }
    return found


def _is_writer(name: str) -> bool:
    return name.endswith(("o_proj.weight", "down_proj.weight"))


def removing(
    strength: float = 1.0,
    *,
    layers: tuple[int, ...] = tuple(range(DEPTH)),
    embedding: bool = True,
    directions: tuple[Tensor, ...] = (_direction(),),
    finish: Callable[[Tensor, Tensor], Tensor] = lambda before, after: after,
) -> Change:
    """Directional ablation of the writers of some layers, as it is done by hand: W - strength r (r' W)."""
    basis = torch.linalg.qr(torch.stack(directions, dim=1)).Q

    def change(weights: Weights) -> Weights:
        for name in weights:
            if _is_writer(name) and layer_of(name) in layers:
                weights[name] = finish(weights[name], weights[name] - strength * basis @ (basis.T @ weights[name]))
        if embedding:
            table = weights["model.embed_tokens.weight"]
            weights["model.embed_tokens.weight"] = table - strength * (table @ basis) @ basis.T
        return weights

    return change


def _each(change: Callable[[Tensor], Tensor]) -> Change:
    return lambda weights: {name: change(one) if one.ndim == 2 else one for name, one in weights.items()}


def _adapter(rank: int) -> Change:
    """A random low-rank change with the norm that removing a direction has."""

    def change(one: Tensor) -> Tensor:
        drawn = torch.randn(one.shape[0], rank) @ torch.randn(rank, one.shape[1])
        return one + drawn / drawn.norm() * one.norm() / WIDTH**0.5

    return _each(change)


def _rounded(bits: int) -> Change:
    def change(one: Tensor) -> Tensor:
        step = one.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        return (one / step).round() * step

    return _each(change)


def _truncated(one: Tensor) -> Tensor:
    """Rounded towards zero to bfloat16: shrinks every weight a little."""
    return (one.view(torch.int32) & -65536).view(torch.float32)


def _pruned(one: Tensor) -> Tensor:
    return torch.where(one.abs() < one.abs().median(), torch.zeros(()), one)


def _rows(before: Tensor, after: Tensor) -> Tensor:
    return after / after.norm(dim=1, keepdim=True) * before.norm(dim=1, keepdim=True)


def _columns(before: Tensor, after: Tensor) -> Tensor:
    return _rows(before.T, after.T).T


def _then(*changes: Change) -> Change:
    def change(weights: Weights) -> Weights:
        for one in changes:
            weights = one(weights)
        return weights

    return change


def _noise(share: float) -> Change:
    return _each(lambda one: one + share * one.std() * torch.randn(one.shape))


def _save(folder: Path, weights: Weights, *, shards: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    names = sorted(weights)
    if shards == 1:
        save_file({name: weights[name].contiguous() for name in names}, folder / "model.safetensors")
        return folder
    places: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        save_file({name: weights[name].contiguous() for name in names[shard::shards]}, folder / file)
        places |= dict.fromkeys(names[shard::shards], file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def _compared(tmp_path: Path, change: Change, *, dtype: torch.dtype = torch.float32, shards: int = 1) -> Comparison:
    torch.manual_seed(0)
    base = _save(tmp_path / "base", _weights())
    changed = {name: one.to(dtype) for name, one in change({k: v.clone() for k, v in _weights().items()}).items()}
    return compare(
        open_checkpoint(str(_save(tmp_path / "changed", changed, shards=shards))), open_checkpoint(str(base))
    )


REMOVALS: dict[str, Change] = {
    "whole": removing(),
    "attenuated": removing(0.3),
    "overshooting": removing(1.5),
    "rows keep their norm": removing(finish=_rows),
    "columns keep their norm": removing(finish=_columns),
    "three directions": removing(directions=(_direction(), _direction(seed=8), _direction(seed=9))),
    "then trained": _then(removing(), _noise(0.02)),
    "then rounded to 8 bits": _then(removing(), _rounded(8)),
    "then pruned": _then(removing(), _each(_pruned)),
}


@pytest.mark.parametrize("name", REMOVALS)
def test_a_removed_direction_is_found_in_every_layer(tmp_path: Path, name: str):
    found = _compared(tmp_path, REMOVALS[name])
    assert found.tampered and found.layers == tuple(range(DEPTH))
    assert {one.name for one in found.removals if _is_writer(one.name)} == {
        name for name in _weights() if _is_writer(name)
    }


def test_what_was_removed_is_measured(tmp_path: Path):
    found = _compared(tmp_path, removing(0.3, embedding=False))
    assert all(one.side == "output" for one in found.removals)
    assert [one.remaining for one in found.removals] == pytest.approx([0.7] * len(found.removals), abs=0.02)
    assert [one.removed for one in found.removals] == pytest.approx([0.3] * len(found.removals), abs=0.02)
    assert found.direction is not None and abs(float(found.direction @ _direction())) > 0.99
    assert found.agreement == pytest.approx(1, abs=0.01)


def test_only_the_layers_that_lost_it_are_named(tmp_path: Path):
    found = _compared(tmp_path, removing(layers=(1,), embedding=False))
    assert found.layers == (1,) and len({one.name for one in found.removals}) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shards", [1, 3])
def test_another_number_format_and_shards_hide_nothing(tmp_path: Path, dtype: torch.dtype, shards: int):
    assert _compared(tmp_path, removing(), dtype=dtype, shards=shards).layers == tuple(range(DEPTH))
    clean = _compared(tmp_path / "clean", lambda weights: weights, dtype=dtype, shards=shards)
    assert not clean.tampered and (clean.changed or dtype is torch.float32)


BENIGN: dict[str, Change] = {
    "nothing": lambda weights: weights,
    "noise as of training": _noise(0.01),
    "strong noise": _noise(0.2),
    "adapter of rank 1, same norm": _adapter(1),
    "adapter of rank 8, same norm": _adapter(8),
    "8 bits": _rounded(8),
    "4 bits": _rounded(4),
    "rounded towards zero": _each(_truncated),
    "weight decay": _each(lambda one: one * 0.9),
    "grown": _each(lambda one: one * 1.1),
    "half pruned": _each(_pruned),
    "a row pruned": _each(lambda one: torch.cat([one[:5], one[5:6] * 0, one[6:]])),
    "a row halved": _each(lambda one: torch.cat([one[:5], one[5:6] * 0.5, one[6:]])),
    "direction strengthened": removing(-0.5),
}


@pytest.mark.parametrize("name", BENIGN)
def test_a_benign_change_stays_clean(tmp_path: Path, name: str):
    found = _compared(tmp_path, BENIGN[name])
    assert not found.tampered, [(one.name, one.cosine, one.removed) for one in found.removals]
    assert (name == "nothing") == (not found.changed)


def test_the_null_is_that_of_random_vectors(tmp_path: Path):
    """Adapters of many seeds: the smallest p over all tests is as small as chance makes it, not smaller."""
    smallest: list[float] = []
    for seed in range(20):
        torch.manual_seed(seed)
        weights = _adapter(1)({k: v.clone() for k, v in _weights().items()})
        measured = [
            one
            for name in weights
            if weights[name].ndim == 2
            for one in find_removals(name, None, _weights()[name], weights[name], width=WIDTH)
            if one.removed >= LEAST
        ]
        smallest.append(min(one.log10_p for one in measured) + np.log10(len(measured)))
    assert np.median(smallest) > -1.5 and min(smallest) > -3


@pytest.mark.parametrize("name", ["qwen2", "llama", "gemma2", "gpt_neox", "qwen3_moe", "gpt2"])
def test_architectures_with_other_names_tied_heads_and_experts(tmp_path: Path, name: str):
    assert name in ARCHITECTURES
    base = build(name, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    width = int(json.loads((base / "config.json").read_text()).get("hidden_size", 0)) or 32
    r = _direction(width)
    changed: Weights = {}
    last = max(layer for one in weights if (layer := layer_of(one)) is not None)
    for one, matrix in weights.items():
        writer = any(part in one for part in ("o_proj", "down_proj", "dense.weight", "dense_4h_to_h", "c_proj.weight"))
        if not writer or matrix.ndim < 2 or layer_of(one) != last:
            changed[one] = matrix
        elif name == "gpt2":  # stores [in, out]
            changed[one] = matrix - torch.outer(matrix @ r, r)
        else:
            changed[one] = matrix - (r[:, None] * torch.einsum("d,...dn->...n", r, matrix)[..., None, :])
    found = compare(open_checkpoint(str(_save(tmp_path / "changed", changed))), open_checkpoint(str(base)))
    assert found.layers == (last,), [(one.name, one.cosine) for one in found.removals]


@pytest.mark.parametrize(("changed", "base"), [("aligned", "base"), ("partial", "base"), ("separate", "base-separate")])
def test_real_alignment_training_is_no_removal(changed: str, base: str):
    """These were flagged: training shrinks minor directions of a tied embedding (share of the change 0.8 to 2.4 %)."""
    found = compare(open_checkpoint(f"testbed:{changed}"), open_checkpoint(f"testbed:{base}"))
    assert found.changed and not found.tampered, [(one.name, one.cosine, one.share) for one in found.removals]


def test_a_few_steps_of_adam_are_no_removal(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    base = build("qwen2", tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(0)
    ids = torch.randint(3, 200, (8, 24))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(30):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "trained")
    found = compare(open_checkpoint(str(tmp_path / "trained")), open_checkpoint(str(base)))
    assert found.changed and not found.tampered, [(one.name, one.cosine, one.share) for one in found.removals]


def test_exit_codes_and_json(tmp_path: Path):
    base = str(_save(tmp_path / "base", _weights()))
    bad = str(_save(tmp_path / "bad", removing()(_weights()), shards=2))
    assert RUN.invoke(app, ["tamper", base, "--base", base]).exit_code == 0
    done = RUN.invoke(app, ["tamper", bad, "--base", base, "--json"])
    assert done.exit_code == 4
    said = json.loads(done.stdout)
    assert said["tampered"] is True and said["verdict"] == "tampered" and said["layers"] == list(range(DEPTH))
    assert said["outside_layers"] == ["model.embed_tokens.weight"]
    plain = RUN.invoke(app, ["tamper", bad, "--base", base])
    assert plain.exit_code == 4 and "layers: 0, 1, 2" in plain.output


def test_what_cannot_be_compared_is_said(tmp_path: Path):
    base = str(_save(tmp_path / "base", _weights()))
    other = {name: one[:, :-1] if one.ndim == 2 else one for name, one in _weights().items()}
    renamed = {f"x.{name}": one for name, one in _weights().items()}
    broken = _weights()
    broken["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    for number, (weights, words) in enumerate(
        ((other, "has shape"), (renamed, "no tensor in common"), (broken, "NaN"))
    ):
        done = RUN.invoke(app, ["tamper", str(_save(tmp_path / str(number), weights)), "--base", base])
        assert isinstance(done.exception, ModelError) and done.exception.exit_code == 2
        assert words in str(done.exception)
    with pytest.raises(ModelError, match="shards are missing"):
        place = _save(tmp_path / "sharded", _weights(), shards=2)
        (place / "model-00002-of-00002.safetensors").unlink()
        open_checkpoint(str(place))


def test_behaviour_is_a_paired_difference_with_an_interval():
    rows = behaviour_rows(
        {"en": 4, "yo": 4}, {"en": np.asarray([1.0, 2.0, 3.0, 4.0])}, {"en": np.asarray([0.0, 1.5, 1.0, 3.5])}
    )
    # differences -1, -0.5, -2, -0.5: mean -1, standard deviation 0.7071, t(0.975, 3) = 3.1824
    assert rows[0]["change"] == pytest.approx(-1.0)
    assert rows[0]["low"] == pytest.approx(-1 - 3.1824 * 0.70711 / 2, abs=1e-3)
    assert rows[1] == {
        "language": "yo",
        "n": 4,
        "base": None,
        "checkpoint": None,
        "change": None,
        "low": None,
        "high": None,
    }
