"""The arithmetic of gates and maps, against values computed apart from our code."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from refusal_lens.defences import Fitting, Limits, choosing
from refusal_lens.defences.attackers import switched
from refusal_lens.defences.conditional import Conditional
from refusal_lens.defences.edits import LinearMap, SetProjection
from refusal_lens.defences.face import Card
from refusal_lens.defences.gate import ONE_BELL, Gate, between, cut_in_two
from refusal_lens.defences.nullspace import constrained_map
from refusal_lens.interventions import Ablation


def brute_force_cut(values: np.ndarray) -> int:
    """How many values are in the lower group when the variance within both groups is least."""
    ordered = np.sort(values)
    within = [ordered[:i].var() * i + ordered[i:].var() * (len(ordered) - i) for i in range(1, len(ordered))]
    return int(np.argmin(within)) + 1


@pytest.mark.parametrize("seed", range(5))
def test_the_cut_is_the_one_with_least_variance_within_the_groups(seed: int) -> None:
    values = np.concatenate(
        [np.random.default_rng(seed).normal(size=17), 3 + np.random.default_rng(seed).normal(size=9)]
    )
    cut = cut_in_two(values)
    ordered, first = np.sort(values), brute_force_cut(values)
    assert cut.threshold == pytest.approx(between(ordered[:first], ordered[first:]).threshold)


def test_the_threshold_is_equally_many_spreads_from_both_groups() -> None:
    cut = between(np.array([-1.0, 1.0]), np.array([8.0, 12.0]))  # means 0 and 10, spreads 1 and 2
    assert cut.threshold == pytest.approx(10 / 3)


def test_one_bell_is_not_taken_for_two_groups_and_two_are() -> None:
    one = np.random.default_rng(0).normal(size=4000)
    assert cut_in_two(one).explained == pytest.approx(2 / np.pi, abs=0.02)
    assert cut_in_two(one).explained < ONE_BELL < cut_in_two(np.concatenate([one, one + 6])).explained


def test_a_map_is_zero_where_harmless_activations_live_and_reaches_the_aim_elsewhere() -> None:
    torch.manual_seed(0)
    harmless = torch.cat([torch.randn(50, 4), torch.zeros(50, 4)], 1)  # in the first four dimensions
    harmful = torch.cat([torch.randn(30, 4), 5 + 0.01 * torch.randn(30, 4)], 1)  # beyond them too
    aim = torch.arange(8.0)
    matrix = constrained_map(harmful, harmless, aim, free=0.5)
    assert float((harmless @ matrix).abs().max()) < 1e-5
    assert float((harmful @ matrix - aim).norm(dim=1).max()) < 0.05 * float(aim.norm())


def test_the_projection_is_set_in_open_rows_alone_and_rows_follow() -> None:
    unit = torch.tensor([0.0, 1.0, 0.0])
    steering = SetProjection(layer=1, unit=unit, target=7.0, opened=torch.tensor([True, False, True]))
    x = torch.randn(3, 5, 3)
    y = steering(x)
    assert torch.allclose(y[[0, 2]] @ unit, torch.full((2, 5), 7.0), atol=1e-5)
    assert torch.equal(y[1], x[1]) and torch.equal(y[..., [0, 2]], x[..., [0, 2]])
    picked = steering.rows([1, 2])(x[[1, 2]])
    assert torch.equal(picked, y[[1, 2]])
    assert torch.equal(steering(x.reshape(15, 3)), y.reshape(15, 3))  # as some architectures flatten it
    assert steering.at("block_input", 0) is None and steering.at("block_input", 1) is not None


def test_beside_an_exact_ablation_nothing_is_added_along_the_ablated_direction() -> None:
    torch.manual_seed(0)
    ablation = Ablation(torch.randn(6))
    rest = LinearMap(layer=0, matrix=torch.randn(6, 6)).after([ablation])
    x = torch.randn(2, 3, 6)
    assert float(((rest(x) - x) @ ablation.unit).abs().max()) < 1e-5
    assert float((rest(x) - x).norm()) > 1


@pytest.mark.parametrize("flat", [False, True])
def test_beside_an_ablation_with_a_direction_per_row_each_row_keeps_its_own_out(flat: bool) -> None:
    """An attacker who ablates each language's own direction: the bench stopped here with maps and affine steering."""
    torch.manual_seed(6)
    x, directions = torch.randn(3, 5, 8), torch.randn(3, 8)
    opened = torch.tensor([True, True, False])
    for steering in (
        LinearMap(layer=1, matrix=torch.randn(8, 8)),
        SetProjection(layer=1, unit=torch.eye(8)[0], target=4.0, opened=opened),
    ):
        both = steering.after([Ablation(directions)])
        for rows in ([0, 1, 2], [2, 0]):
            given = x[rows].flatten(0, 1) if flat else x[rows]
            added = (both.rows(rows)(given) - given).reshape(len(rows), 5, 8)
            for place, row in enumerate(rows):
                alone = steering.rows([row]).after([Ablation(directions[row])])
                assert torch.allclose(added[place], (alone(x[row][None]) - x[row])[0], atol=1e-5)
                assert float((added[place] @ directions[row]).abs().max()) < 1e-4


def test_a_prompt_switched_in_the_middle() -> None:
    assert switched("a b c d", "one two three four") == "a b three four"
    assert switched("一二三四", "one two three") == "一二 three"


def test_a_recalibrated_gate_says_nothing_where_it_is_shut_for_good() -> None:
    gate = Gate(
        -1,
        1,
        torch.ones(2),
        0.0,
        0.0,
        ("de", "yo"),
        torch.tensor([torch.inf, 1.0]),
        torch.ones(2),
        torch.eye(2),
        torch.eye(2),
    )
    opened = torch.tensor([False, True, False])
    assert gate.flags(opened, ["de", "yo", "yo"], recalibrated=True) == [None, True, False]
    assert gate.flags(opened, ["de", "yo", "yo"], recalibrated=False) == [False, True, False]


class _Pretended(Conditional):
    """A candidate of which it is known how much it makes refuse in each language."""

    def __init__(self, **refuses: float) -> None:
        self.card, self.refuses = Card("x", "", ("en",), ("en", "yo"), {}, {}), refuses

    def intervene(self, *_given: object, **_told: object) -> dict[str, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.refuses


def test_a_language_that_is_left_alone_has_no_say_in_what_is_done_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Yoruba needs an action, English does not. Before, the candidate that English liked best was taken: 84 % of Yoruba."""

    def pretend(_model: object, texts: Sequence[str], languages: Sequence[str], **told: object) -> list[str]:
        acting = told["interventions"]
        assert isinstance(acting, list)
        share = {"yo": 0.0, "en": 1.0} if not acting else acting[0]
        asked.append(len(texts))
        place = {
            code: [row for row, one in enumerate(languages) if one == code and texts[row] != "calm"] for code in share
        }
        refused = {row for code, rows in place.items() for row in rows[: round(share[code] * len(rows))]}
        return ["refused" if row in refused else "complied" for row in range(len(texts))]

    monkeypatch.setattr(choosing, "answered", pretend)
    fitting = object.__new__(Fitting)
    fitting.__dict__ |= {
        "model": None,
        "limits": Limits(prompts=5),
        "gate": SimpleNamespace(gate=SimpleNamespace(languages=("en", "yo"))),
        "opened": ([f"bad {number}" for number in range(100)], ["en"] * 50 + ["yo"] * 50),
        "harmless": (["calm"] * 4, ["en"] * 4),
    }
    asked: list[int] = []
    assert fitting.needy == ("yo",)
    mild, strong = _Pretended(en=1.0, yo=0.8), _Pretended(en=0.2, yo=1.0)
    assert fitting.choose([mild, strong]) is mild
    assert fitting.choose([mild, strong], served=fitting.needy) is strong
    assert asked == [14] * 6, "as many prompts (10, and 4 calm ones): twice as many of the one language that has a say"
    assert strong.card.validation["refused_of_opened"] == {"en": 0.2, "yo": 1.0}, "the card shows all languages"
