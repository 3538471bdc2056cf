"""Directions and candidates on disk, nulls, imports of foreign tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusal_lens.directions import (
    Candidates,
    Direction,
    balanced_halves,
    import_candidates,
    import_direction,
    random_direction,
)
from refusal_lens.errors import DataError, UserError
from refusal_lens.interventions import reference_of


def some_candidates() -> Candidates:
    tensor = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    return Candidates(tensor, (-2, -1), 5, 7, "abc", harmless_projection=torch.ones(2, 3))


def test_candidates_round_trip(tmp_path: Path) -> None:
    candidates = some_candidates()
    candidates.save(tmp_path / "new")
    found = Candidates.load(tmp_path / "new")
    assert torch.equal(found.tensor, candidates.tensor)
    assert (found.positions, found.n_harmful, found.n_harmless, found.model_digest) == ((-2, -1), 5, 7, "abc")
    assert found.sites() == [(-2, 0), (-2, 1), (-2, 2), (-1, 0), (-1, 1), (-1, 2)]
    picked = found.direction(position=-1, layer=2, source="en")
    assert torch.equal(picked.vector, candidates.tensor[1, 2])
    assert picked.harmless_projection == 1.0
    with pytest.raises(UserError, match="no candidate at position -3"):
        found.vector(-3, 0)


def test_candidates_that_do_not_fit_their_description_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="refusal-lens extract"):
        Candidates.load(tmp_path)
    some_candidates().save(tmp_path)
    facts = (tmp_path / "candidates.json").read_text(encoding="utf-8")
    (tmp_path / "candidates.json").write_text(
        facts.replace('"positions": [\n  -2,', '"positions": [\n'), encoding="utf-8"
    )
    with pytest.raises(DataError, match="1 positions"):
        Candidates.load(tmp_path)
    (tmp_path / "candidates.json").write_text(
        facts.replace('"schema_version": 1', '"schema_version": 9'), encoding="utf-8"
    )
    with pytest.raises(DataError, match="schema 1"):
        Candidates.load(tmp_path)


def test_direction_round_trip_in_one_file(tmp_path: Path) -> None:
    direction = Direction(torch.tensor([3.0, 4.0]), -1, 2, "de", "abc", harmless_projection=-0.5)
    direction.save(tmp_path / "d.safetensors")
    found = Direction.load(tmp_path / "d.safetensors")
    assert torch.equal(found.vector, direction.vector)
    assert (found.position, found.layer, found.source) == (-1, 2, "de")
    assert (found.model_digest, found.harmless_projection) == ("abc", -0.5)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="not a readable direction"):
        Direction.load(tmp_path / "broken.safetensors")


def test_random_directions_have_the_norm_and_the_place_of_the_real_one() -> None:
    like = Direction(torch.tensor([3.0, 4.0, 0.0, 0.0]), -4, 7, "en", "abc")
    drawn = [random_direction(like, seed) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0].vector, drawn[1].vector)
    assert not torch.equal(drawn[0].vector, drawn[2].vector)
    for item in drawn:
        assert item.vector.norm().item() == pytest.approx(5.0, abs=1e-5)
        assert (item.position, item.layer, item.model_digest) == (-4, 7, "abc")


def test_foreign_tensors_are_read_without_running_code(tmp_path: Path) -> None:
    torch.save(torch.ones(4, dtype=torch.float64), tmp_path / "direction.pt")
    found = import_direction(tmp_path / "direction.pt", position=-1, layer=3, source="theirs")
    assert found.vector.dtype == torch.float32
    torch.save(torch.ones(5, 3, 4), tmp_path / "mean_diffs.pt")
    assert import_candidates(tmp_path / "mean_diffs.pt").positions == (-5, -4, -3, -2, -1)
    torch.save(torch.full((4,), torch.nan), tmp_path / "nan.pt")
    with pytest.raises(DataError, match="finite"):
        import_direction(tmp_path / "nan.pt", position=-1, layer=3, source="theirs")
    torch.save(Path, tmp_path / "code.pt")
    with pytest.raises(DataError, match="plain tensor"):
        import_direction(tmp_path / "code.pt", position=-1, layer=3, source="theirs")


def test_shuffled_halves_hold_half_of_each_class() -> None:
    harmful, harmless = [f"bad {i}" for i in range(9)], [f"good {i}" for i in range(6)]
    first, second = balanced_halves(harmful, harmless, seed=3)
    for half in (first, second):
        assert sum(text.startswith("bad") for text in half) == 4
        assert sum(text.startswith("good") for text in half) == 3
    assert not set(first) & set(second)
    assert balanced_halves(harmful, harmless, seed=3) == (first, second)
    assert balanced_halves(harmful, harmless, seed=4) != (first, second)


def test_reference_of_a_direction_is_the_harmless_mean_along_it(tmp_path: Path) -> None:
    mean = torch.zeros(2, 3, 4)
    mean[1, 2] = torch.tensor([3.0, 4.0, 0.0, 0.0])
    Candidates(torch.ones(2, 3, 4), (-2, -1), 5, 7, harmless_mean=mean).save(tmp_path)
    found = Candidates.load(tmp_path)
    assert found.reference(torch.tensor([0.0, 2.0, 0.0, 0.0]), position=-1, layer=2) == pytest.approx(4.0)
    assert found.reference(torch.tensor([0.0, 2.0, 0.0, 0.0]), position=-2, layer=2) == 0.0
    made = found.direction(position=-1, layer=2, source="en")
    assert made.harmless_projections == pytest.approx((0.0, 0.0, 3.5))  # (3 + 4) / |(1, 1, 1, 1)|
    made.save(tmp_path / "d.safetensors")
    assert Direction.load(tmp_path / "d.safetensors").harmless_projections == made.harmless_projections
    unknown = Candidates(torch.ones(2, 3, 4), (-2, -1), 5, 7)
    assert unknown.direction(position=-1, layer=2, source="en").harmless_projections is None
    assert unknown.reference(torch.ones(4), position=-1, layer=2) is None


def test_an_affine_ablation_without_a_harmless_mean_is_refused_and_not_done_towards_zero() -> None:
    with pytest.raises(DataError, match="'random-3': its harmless mean is not known"):
        reference_of(Direction(torch.ones(4), -1, 2, "random-3"))
    assert reference_of(Direction(torch.ones(4), -1, 2, "de", harmless_projection=-0.5)) == -0.5
