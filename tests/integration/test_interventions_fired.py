"""An intervention that did nothing is never reported: what is read along its direction is measured while answers are written."""

from __future__ import annotations

import pytest
import torch

import tiny_models
from refusal_lens.errors import ModelError
from refusal_lens.interventions import Ablation, Addition, FiredProof, Shares, require_fired
from refusal_lens.model import LensModel, generate, load_model

PROMPTS = ["Tell me a story about cats", "What?", "写一首诗。", "How do I bake bread?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LensModel:
    return load_model(str(tiny_models.build("llama", tmp_path_factory.mktemp("models") / "llama", seed=5)))


def _oracle(model: LensModel, prompt: str, direction: torch.Tensor, *, signed: bool, from_layer: int) -> float:
    """The share without intervention, from transformers' own hidden states and norms' inputs: block inputs before attention."""
    seen: list[float] = []
    r = direction / direction.norm()

    def note(_module: object, given: tuple[torch.Tensor, ...]) -> None:
        x = given[0][0, -1]
        along = float(x @ r / x.norm())
        seen.append(along if signed else abs(along))

    network = model.hf.model
    handles = [
        norm.register_forward_pre_hook(note)
        for layer in network.layers[from_layer:]
        for norm in (layer.input_layernorm, layer.post_attention_layernorm)
    ]
    handles.append(network.norm.register_forward_pre_hook(note))
    with torch.no_grad():
        model.hf(torch.tensor(model.render([prompt])))
    for handle in handles:
        handle.remove()
    return sum(seen) / len(seen)


def _measured(model: LensModel, interventions: list[Ablation | Addition], rows: list[int]) -> FiredProof:
    proof = FiredProof(interventions, rows)
    generate(model, PROMPTS, max_new_tokens=3, interventions=interventions, watch=proof.watch, batch_size=3)
    proof.measure_before(model, PROMPTS)
    return proof


@pytest.mark.parametrize("fold", [True, False])
def test_an_ablation_takes_the_share_that_was_there(model: LensModel, fold: bool) -> None:
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))
    one = Ablation(direction if fold else direction.repeat(len(PROMPTS), 1))
    proof = _measured(model, [one], [0, 2])
    for row in (0, 2):
        expected = _oracle(model, PROMPTS[row], direction, signed=False, from_layer=0)
        assert proof.shares([row]).before == pytest.approx(expected, rel=0.06), "two digits are kept"
    shares = proof.shares([0, 2])
    assert shares.after is not None
    assert shares.after < 1e-6
    require_fired(shares, "ablation", model)


def test_an_addition_shows_from_its_layer_on_and_each_row_its_own(model: LensModel) -> None:
    rows = torch.randn(len(PROMPTS), model.d_model, generator=torch.Generator().manual_seed(2)) * 5
    rows[1] = 0
    proof = _measured(model, [Addition(rows, layer=1)], [0, 1, 3])
    expected = _oracle(model, PROMPTS[3], rows[3], signed=True, from_layer=1)
    assert proof.shares([3]).before == pytest.approx(expected, rel=0.06, abs=1e-3)
    after = proof.shares([0, 3]).after
    assert after is not None
    assert after > 0.5, "most of what is read is the addition"
    assert proof.shares([1]) == Shares(None, None), "nothing to measure where nothing is added"


def test_an_intervention_that_did_nothing_stops(model: LensModel) -> None:
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))
    proof = FiredProof([Ablation(direction)], [0])
    generate(model, PROMPTS, max_new_tokens=2, watch=proof.watch)  # forgotten: no intervention is in place
    proof.measure_before(model, PROMPTS)
    with pytest.raises(ModelError, match=r"ablation of en did nothing"):
        require_fired(proof.shares([0]), "ablation of en", model)


@pytest.mark.parametrize(
    ("before", "after", "fired"),
    [
        (0.2, 1e-7, True),
        (0.2, 0.2, False),
        (0.2, 0.1995, False),
        (1e-7, 1e-7, True),
        (-0.1, 0.4, True),
        (None, None, True),
    ],
)
def test_what_counts_as_nothing(before: float | None, after: float | None, fired: bool) -> None:
    assert Shares(before, after).fired(rounding=1e-5) is fired
