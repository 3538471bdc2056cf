"""Every architecture of `tiny_models`: located, exact, foldable where it says so, and able to write.

The last test holds docs/architectures.md to what was measured; REFUSAL_LENS_WRITE_DOCS=1 rewrites the page instead.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
import transformers

import tiny_models
from refusal_lens.errors import UserError
from refusal_lens.interventions import Ablation, Addition, Doctor, doctor, folded, intervening, residual_leak
from refusal_lens.model import PROBES, LensModel, fold_plan, generate, load_model, next_token_logits, record

POST_NORM = {"gemma2", "gemma3", "gemma3_vision", "olmo2"}
PARALLEL = {"phi", "gpt_neox", "falcon", "cohere2"}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"
EVERY = pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)


@cache
def model(name: str) -> LensModel:
    return load_model(str(tiny_models.build(name, Path(mkdtemp()) / name)))


@cache
def examined(name: str) -> Doctor:
    return doctor(model(name))


def _direction(loaded: LensModel, seed: int = 3) -> torch.Tensor:
    return torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed))


@EVERY
def test_doctor_passes(name: str) -> None:
    found = examined(name)
    assert found.ok, [check for check in found.checks if not check.ok]
    assert (found.n_layers, found.d_model) == (tiny_models.LAYERS, tiny_models.WIDTH)
    assert found.residual_leak <= 1e-5
    assert found.folding == ("hooks" if name in POST_NORM else "exact")
    assert found.layout.startswith("parallel") == (name in PARALLEL)
    assert ("post" in found.layout or "sandwich" in found.layout) == (name in POST_NORM)
    if name in POST_NORM:
        assert found.published_leak > 0.03, "the positive control: the published hooks do leak here"
    else:
        assert found.published_leak <= 1e-5


@EVERY
def test_affine_and_stacked_ablation_reach_every_reader(name: str) -> None:
    loaded = model(name)
    affine = Ablation(_direction(loaded), reference=torch.tensor(0.7))
    assert residual_leak(loaded, affine) <= 1e-5
    by_layer = Ablation(_direction(loaded), reference=torch.linspace(-0.7, 0.9, loaded.n_layers)[None])
    assert residual_leak(loaded, by_layer) <= 1e-5, "each layer's readers see the reference of that layer"
    one, two = Ablation(_direction(loaded, 4)), Ablation(_direction(loaded, 5))
    with intervening(loaded, [one, two]):
        assert residual_leak(loaded, Ablation(torch.zeros(loaded.d_model))) == 0, "the measure of a zero direction"
        rows = torch.cat([part for _, part in record(loaded, PROBES, positions=(-3, -1))])
    for ablation in (one, two):
        assert float((rows[:, :, 1:] @ ablation.unit).abs().max()) <= 1e-5 * float(rows.norm(dim=-1).max())


@EVERY
def test_addition_equals_the_closed_form(name: str) -> None:
    loaded = model(name)
    plain = dict(zip(*_rows(loaded, ()), strict=True))
    for layer in (0, loaded.n_layers - 1):
        addition = Addition(_direction(loaded), layer=layer, coefficient=-1.5)
        for row, found in zip(*_rows(loaded, (addition,)), strict=True):
            assert torch.equal(found[:, :layer], plain[row][:, :layer]), "nothing before its layer changes"
            assert torch.allclose(found[:, layer], plain[row][:, layer] - 1.5 * addition.direction, atol=1e-5)


def _rows(loaded: LensModel, interventions: tuple[Addition, ...]) -> tuple[list[int], list[torch.Tensor]]:
    rows, activations = next(record(loaded, PROBES[:3], batch_size=3, interventions=interventions))
    return rows, list(activations)


@EVERY
def test_context_matters_and_padding_does_not(name: str) -> None:
    loaded = model(name)
    together = next_token_logits(loaded, PROBES, batch_size=6)
    alone = next_token_logits(loaded, PROBES, batch_size=1)
    assert torch.allclose(together, alone, atol=1e-5)
    assert float((alone[0] - alone[1]).abs().max()) > 1e-3, "different prompts differ"


@EVERY
def test_per_row_directions_equal_one_at_a_time(name: str) -> None:
    loaded = model(name)
    directions = torch.stack([_direction(loaded, seed) for seed in (7, 8)])
    ids = loaded.token_ids([PROBES[0]])[0]
    batch = loaded.batch([ids, ids], [0, 1])
    for make in (Ablation, lambda d: Addition(d, layer=1)):
        with intervening(loaded, [make(directions)]):
            together = loaded.logits(batch)
        for row in range(2):
            with intervening(loaded, [make(directions[row])]):
                assert torch.allclose(together[row], loaded.logits(loaded.batch([ids], [0]))[0], atol=1e-5)


@EVERY
def test_folding_equals_hooks_and_puts_the_bytes_back(name: str) -> None:
    loaded = model(name)
    ablation = Ablation(_direction(loaded))
    before = {key: value.clone() for key, value in loaded.hf.state_dict().items()}
    pointers = {key: value.data_ptr() for key, value in loaded.hf.state_dict().items()}
    if name in POST_NORM:
        with pytest.raises(UserError, match="not exact"), folded(loaded, ablation):
            pass
    else:
        plain = next_token_logits(loaded, PROBES)
        hooked = next_token_logits(loaded, PROBES, interventions=[ablation])
        with folded(loaded, ablation):
            inside = next_token_logits(loaded, PROBES)
        assert torch.allclose(inside, hooked, atol=2e-5)
        assert float((hooked - plain).abs().max()) > 100 * float((inside - hooked).abs().max()), (
            "the effect is no rounding"
        )
    after = loaded.hf.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert {key: value.data_ptr() for key, value in after.items()} == pointers


@EVERY
def test_generation_equals_transformers(name: str) -> None:
    loaded = model(name)
    limit = 10
    ours = generate(loaded, PROBES[:4], max_new_tokens=limit, batch_size=4)
    for index in range(4):
        ids = torch.tensor([loaded.render([PROBES[index]])[0]])
        theirs = loaded.hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False)
        assert list(ours[index].token_ids) == theirs[0, ids.shape[1] :].tolist()
    ablation = Ablation(_direction(loaded))
    hooked = generate(loaded, PROBES[:4], max_new_tokens=limit, interventions=[ablation], fold="never")
    assert generate(loaded, PROBES[:4], max_new_tokens=limit, interventions=[ablation]) == hooked


def _table() -> str:
    lines = [
        "| architecture | class | layout | folding | leak | leak of the published hooks |",
        "|---|---|---|---|---|---|",
    ]
    for name in tiny_models.ARCHITECTURES:
        found, why = examined(name), fold_plan(model(name)).why_not
        folding = found.folding if why is None else f"{found.folding} ({why})"
        leaks = f"{found.residual_leak:.0e} | {found.published_leak:.0e}"
        lines.append(f"| {name} | {found.architecture} | {found.layout} | {folding} | {leaks} |")
    return "\n".join(lines)


def _without_numbers(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:5]] for line in text.splitlines() if line.startswith("| ")]


def test_the_page_says_what_was_measured() -> None:
    start, end = "<!-- table: written by the test run -->\n", "\n<!-- end of table -->"
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(start)
    old, tail = rest.split(end)
    table = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, float32 on a CPU\n\n{_table()}"
    if os.environ.get("REFUSAL_LENS_WRITE_DOCS"):
        PAGE.write_text(head + start + table + end + tail, encoding="utf-8")
        return
    assert _without_numbers(old) == _without_numbers(table), (
        "run this test with REFUSAL_LENS_WRITE_DOCS=1 and commit the page"
    )
