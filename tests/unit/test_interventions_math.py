"""Closed forms of ablation and addition, without any model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusal_lens.directions import Candidates, Direction
from refusal_lens.interventions import Ablation, Addition, making, unit


def _draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_ablation_is_a_projection(seed: int, scale: float) -> None:
    x, direction = _draw(2, 5, 16, seed=seed), _draw(16, seed=seed + 1) * scale
    once = Ablation(direction)(x)
    r = (direction.double() / direction.double().norm()).float()
    assert torch.allclose(once, x - (x @ r)[..., None] * r, atol=1e-5)
    assert float((once @ r).abs().max()) < 1e-5
    assert torch.allclose(Ablation(direction)(once), once, atol=1e-5), "idempotent"
    assert torch.allclose(Ablation(-3 * direction)(x), once, atol=1e-5), "only the line matters"


def test_affine_ablation_sets_the_projection() -> None:
    x, direction = _draw(3, 4, 8), _draw(8, seed=1)
    r = unit(direction)
    assert torch.allclose(Ablation(direction, reference=torch.tensor(-1.5))(x) @ r, torch.full((3, 4), -1.5), atol=1e-5)
    assert torch.allclose(Ablation(direction, reference=2.0)(x) @ r, torch.full((3, 4), 2.0), atol=1e-5)


def test_zero_direction_changes_nothing() -> None:
    x = _draw(2, 3, 8)
    for variant in ("exact", "published"):
        assert torch.equal(Ablation(torch.zeros(8), variant=variant)(x), x)
    assert torch.equal(Ablation(torch.zeros(8), reference=5.0)(x), x)
    assert torch.equal(Addition(torch.zeros(8), layer=0)(x), x)


def test_nothing_is_written_in_place() -> None:
    x, direction = _draw(2, 3, 8), _draw(8, seed=1)
    kept_x, kept_direction = x.clone(), direction.clone()
    Ablation(direction)(x)
    Addition(direction, layer=1, coefficient=2.0)(x)
    assert torch.equal(x, kept_x)
    assert torch.equal(direction, kept_direction)


def test_one_direction_per_row_equals_each_row_alone() -> None:
    x, directions = _draw(3, 4, 8), _draw(3, 8, seed=1)
    directions[1] = 0
    for make in (Ablation, lambda d: Addition(d, layer=0, coefficient=0.5)):
        together = make(directions)(x)
        alone = torch.cat([make(directions[row])(x[row : row + 1]) for row in range(3)])
        assert torch.allclose(together, alone, atol=1e-6)
        assert torch.allclose(make(directions)(x.reshape(12, 8)).reshape(3, 4, 8), together), "flattened expert outputs"


def test_low_precision_projects_in_float32() -> None:
    x, direction = _draw(4, 64).bfloat16(), _draw(64, seed=1).bfloat16()
    out = Ablation(direction)(x)
    assert out.dtype == torch.bfloat16
    along = (out.float() @ unit(direction)).abs().max() / x.float().norm(dim=-1).mean()
    assert float(along) < 4e-3, "only the rounding of the result is left"


def test_stacked_ablations_remove_the_whole_span() -> None:
    x, one, two = _draw(2, 5, 8), _draw(8, seed=1), _draw(8, seed=2)
    first = Ablation(one)
    second = Ablation(two).after([first])
    out = second(first(x))
    assert float((out @ unit(one)).abs().max()) < 1e-5
    assert float((out @ unit(two)).abs().max()) < 1e-5
    again = Ablation(3 * one).after([first])
    assert not bool(again.direction.any()), "the same line twice is no second direction"
    assert torch.allclose(again(first(x)), first(x))


def test_an_affine_ablation_is_affine_concept_editing_in_every_layer() -> None:
    """From scratch: v' = v - proj_r(v) + proj_r(harmless mean of that layer) at every block, and nothing is added along r.

    One reference for all layers, the harmless mean of the direction's own, breaks `testbed:aligned`: -4.8 at layer 3, -0.1
    at layer 0, and every answer became noise.
    """
    torch.manual_seed(0)
    v, r, harmless = torch.randn(3, 5, 8), torch.randn(8), torch.randn(4, 8)
    candidates = Candidates(torch.stack([r] * 4)[None], (-1,), 5, 7, harmless_mean=harmless[None])
    ablation = candidates.direction(position=-1, layer=2, source="en").ablation(affine=True)
    for layer in range(4):
        edit = ablation.at("block_input", layer)
        assert edit is not None
        wanted = v - (v @ r / (r @ r))[..., None] * r + (harmless[layer] @ r / (r @ r)) * r
        assert torch.allclose(edit(v), wanted, atol=1e-5)
        for site in ("attention_write", "mlp_write"):
            removed = ablation.at(site, layer)
            assert removed is not None and float((removed(v) @ r).abs().max()) < 1e-5
    final = ablation.at("rounded", 4)  # what the final norm reads, in 16-bit formats
    assert final is not None
    assert torch.allclose(final(v) @ r / r.norm(), (harmless[3] @ r / r.norm()).expand(3, 5), atol=1e-5)
    own = v[0, :2]  # what readers of layer 1 read: their share is told from that layer's reference
    shares = Ablation(r, reference=ablation.reference).share(own, 1)
    off = (own @ r / r.norm() - harmless[1] @ r / r.norm()).abs() / own.norm(dim=-1)
    assert torch.allclose(shares, off, atol=1e-5)


def test_affine_ablations_of_several_directions_keep_each_layer_s_reference_by_row() -> None:
    torch.manual_seed(1)
    x = torch.randn(4, 3, 8)
    directions = [
        Direction(torch.randn(8), -1, 1, name, harmless_projection=1.0, harmless_projections=by_layer)
        for name, by_layer in (("en", (0.5, 1.0, 2.0)), ("de", (-1.0, -2.0, -3.0)))
    ]
    (both,) = making.make("affine", {}, directions, repeats=2)
    for chosen in ([0, 1, 2, 3], [3, 0]):
        part = both.rows(chosen)
        edit = part.at("block_input", 2)
        assert edit is not None
        seen = edit(x[chosen])
        for row, index in enumerate(chosen):
            unit = directions[index // 2].vector / directions[index // 2].vector.norm()
            assert torch.allclose(seen[row] @ unit, torch.full((3,), (2.0, -3.0)[index // 2]), atol=1e-5)


def test_stacked_affine_ablations_by_layer_keep_both_references() -> None:
    torch.manual_seed(2)
    x, one, two = torch.randn(2, 3, 8), torch.randn(8), torch.randn(8)
    first = Ablation(one, reference=torch.tensor([[1.0, 2.0, 3.0]]))
    second = Ablation(two, reference=-2.0)
    for layer in range(3):
        edits = [item.at("block_input", layer) for item in (first, second.after([first]))]
        assert edits[0] is not None and edits[1] is not None
        seen = edits[1](edits[0](x))
        assert torch.allclose(seen @ one / one.norm(), torch.full((2, 3), layer + 1.0), atol=1e-4)
        assert torch.allclose(seen @ two / two.norm(), torch.full((2, 3), -2.0), atol=1e-4)


def test_stacked_affine_ablations_keep_both_references() -> None:
    x, one, two = _draw(2, 5, 8), _draw(8, seed=1), _draw(8, seed=2)
    first = Ablation(one, reference=1.0)
    second = Ablation(two, reference=-2.0).after([first])
    out = second(first(x))
    assert torch.allclose(out @ unit(one), torch.full((2, 5), 1.0), atol=1e-4)
    assert torch.allclose(out @ unit(two), torch.full((2, 5), -2.0), atol=1e-4)


@pytest.mark.parametrize("length", [1e-30, 1.0, 1e30])
def test_unit_survives_extreme_lengths(length: float) -> None:
    assert float(unit(_draw(16) * length).norm()) == pytest.approx(1.0, abs=1e-5)


def test_an_addition_gives_way_to_an_exact_ablation_row_by_row() -> None:
    ablated, added = _draw(3, 8, seed=1), _draw(8, seed=2)
    left = Addition(added, layer=0, coefficient=2.0).after([Ablation(ablated)]).direction
    for row in range(3):
        r = unit(ablated[row])
        assert torch.allclose(left[row], added - (added @ r) * r, atol=1e-6)
    assert torch.equal(Addition(added, layer=0).after([Ablation(3 * added)]).direction, torch.zeros(8))
    published = Addition(added, layer=0).after([Ablation(ablated, variant="published")])
    assert torch.equal(published.direction, added), "the published hooks guarantee nothing"


def test_rows_that_do_not_fit_are_said() -> None:
    """Found by trying: a reference of several rows beside one direction gave every prompt the first row's."""
    one, two = _draw(8), _draw(2, 8)
    for reference in (torch.tensor([1.0, 2.0]), torch.ones(2, 1), torch.ones(2, 3)):
        with pytest.raises(ValueError, match="a reference of 2 rows needs 2 directions"):
            Ablation(one, reference=reference)
        assert Ablation(two, reference=reference).rows([1]).direction.shape == (1, 8)
    Ablation(two, reference=torch.ones(1, 3))
    for edit in (Ablation(two), Addition(two, layer=0)):
        assert torch.equal(edit.rows([1, 0]).direction, two[[1, 0]])
        with pytest.raises(ValueError, match="2 directions, one a prompt, but more prompts: prompt 2 has none"):
            edit.rows([0, 2])
