from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics.pairwise import cosine_similarity

from refusal_lens.geometry import (
    LayerActivations,
    answered_auc,
    auc,
    cosine_matrix,
    d_prime,
    direction_stability,
    effective_rank,
    language_directions,
    measure_cosines,
    project_layer,
    reliability,
    separate,
    sharing,
    silhouette,
    site_stability,
)
from refusal_lens.geometry.separation import shared_threshold

LANGUAGES = ("ar", "de", "en", "zh")


def planted(
    *,
    shared: float = 1.0,
    private: float = 0.0,
    n: int = 40,
    width: int = 32,
    seed: int = 0,
    scale: tuple[float, ...] = (1, 1, 1, 1),
) -> LayerActivations:
    """Prompts with shared content, a language offset, and harm along one shared and one private axis per language."""
    rng = np.random.default_rng(seed)
    axes = np.eye(width)
    content = [rng.normal(size=(n, width)) for _ in range(2)]
    harmful, harmless = [], []
    for index in range(len(LANGUAGES)):
        offset = 5 * rng.normal(size=width)
        own = [part + offset + 0.3 * rng.normal(size=(n, width)) for part in content]
        push = scale[index] * (shared * axes[0] + private * axes[1 + index]) * 6
        harmful.append((own[0] + push).astype(np.float32))
        harmless.append(own[1].astype(np.float32))
    return LayerActivations(LANGUAGES, harmful, harmless)


def test_cosines_equal_scikit_learn() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 7))
    assert cosine_matrix(rows) == pytest.approx(cosine_similarity(rows))


def test_a_zero_direction_has_no_cosine() -> None:
    found = cosine_matrix(np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert found[0, 0] == 1 and np.isnan(found[0, 1]) and np.isnan(found[1, 1])


def test_a_planted_shared_axis_is_found_and_a_private_one_is_not_shared() -> None:
    one, two = measure_cosines(planted(shared=1)), measure_cosines(planted(shared=0, private=1))
    off = ~np.eye(4, dtype=bool)
    assert one.cosine[off].min() > 0.9 and two.cosine[off].max() < 0.35
    assert (one.low <= one.cosine + 1e-9).all() and (one.cosine <= one.high + 1e-9).all()
    assert not one.masked.any() and not two.masked.any()


def test_shared_content_without_harm_stays_inside_the_null() -> None:
    # nothing harmful planted: directions are what the shared content of the prompts happens to differ by
    hits = 0
    for seed in range(20):
        found = measure_cosines(planted(shared=0, seed=seed), bootstrap=20, permutations=60, seed=seed)
        hits += bool(found.null_low[0, 1] <= found.cosine[0, 1] <= found.null_high[0, 1])
    assert hits >= 17


def test_the_null_carries_content_but_no_harm() -> None:
    found = measure_cosines(planted(shared=1, n=60))
    assert (found.null_norm < 0.5 * found.norm).all()


def test_directions_without_signal_are_masked() -> None:
    same = planted(shared=0, seed=3)
    exact = LayerActivations(LANGUAGES, same.harmful, same.harmful)
    assert measure_cosines(exact, bootstrap=10, permutations=20).masked.all()
    rng = np.random.default_rng(0)
    constant = [np.full((20, 8), 3.0, dtype=np.float32) for _ in LANGUAGES]
    rounding = [part + rng.normal(size=part.shape).astype(np.float32) * 1e-6 for part in constant]
    assert measure_cosines(LayerActivations(LANGUAGES, constant, rounding), bootstrap=10, permutations=20).masked.all()


def test_permuting_languages_permutes_cosines() -> None:
    layer = planted(shared=1, private=0.7)
    order = [2, 0, 3, 1]
    moved = LayerActivations(
        tuple(LANGUAGES[i] for i in order), [layer.harmful[i] for i in order], [layer.harmless[i] for i in order]
    )
    one, two = measure_cosines(layer, seed=5), measure_cosines(moved, seed=5)
    for name in ("cosine", "low", "high", "null_low", "null_high"):
        assert getattr(two, name) == pytest.approx(getattr(one, name)[np.ix_(order, order)], abs=1e-6)


def test_bootstrap_interval_covers_the_population_cosine() -> None:
    # two languages, harm along unit vectors at 60 degrees, independent noise
    axis = [np.array([1.0, 0, 0, 0, 0, 0]), np.array([0.5, math.sqrt(0.75), 0, 0, 0, 0])]
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        harmful = [(rng.normal(size=(80, 6)) * 0.5 + 3 * a).astype(np.float32) for a in axis]
        harmless = [(rng.normal(size=(80, 6)) * 0.5).astype(np.float32) for _ in axis]
        found = measure_cosines(
            LayerActivations(("a", "b"), harmful, harmless), bootstrap=200, permutations=5, seed=seed
        )
        hits += bool(found.low[0, 1] <= 0.5 <= found.high[0, 1])
    assert hits / 60 >= 0.85


def test_reliability_rises_with_the_signal() -> None:
    weak, strong = reliability(planted(shared=0.02)), reliability(planted(shared=1))
    assert (strong > 0.9).all() and (strong > weak).all()


def test_effective_rank_in_closed_form() -> None:
    assert effective_rank(np.tile([1.0, 2.0, 3.0], (5, 1))) == pytest.approx(1)
    assert effective_rank(np.eye(6)) == pytest.approx(6)
    assert effective_rank(3 * np.eye(4)[:, :4]) == pytest.approx(4)
    # two equal directions and one orthogonal: singular values sqrt(2) and 1, as Roy and Vetterli weigh them, not squared
    share = np.array([math.sqrt(2), 1.0]) / (math.sqrt(2) + 1)
    expected = math.exp(-(share * np.log(share)).sum())
    assert effective_rank(np.array([[1.0, 0], [1, 0], [0, 1]])) == pytest.approx(expected)
    assert math.isnan(effective_rank(np.zeros((3, 2))))


def test_shared_and_private_parts() -> None:
    assert sharing(np.tile([1.0, 2.0], (4, 1))).shared == pytest.approx(np.ones(4))
    assert sharing(np.eye(4)).shared == pytest.approx(np.zeros(4))
    found = sharing(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]))
    assert found.shared[2] == pytest.approx(0.5)
    assert np.linalg.norm(found.mean_direction) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20), st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_auc_is_the_mann_whitney_statistic(positive: list[int], negative: list[int]) -> None:
    p, q = np.array(positive, dtype=float), np.array(negative, dtype=float)
    assert auc(p, q) == pytest.approx(mannwhitneyu(p, q).statistic / (len(p) * len(q)))


def test_d_prime_in_closed_form() -> None:
    assert d_prime(np.array([4.0, 6.0]), np.array([0.0, 2.0])) == pytest.approx(4 / math.sqrt(2))
    assert d_prime(np.array([1.0, 1.0]), np.array([0.0, 0.0])) == math.inf
    assert math.isnan(d_prime(np.array([1.0]), np.array([0.0, 0.0])))


def test_silhouette_in_closed_form() -> None:
    # points 0, 1 against 10, 11: a = 1; b = 10.5 or 9.5
    expected = (2 * (1 - 1 / 10.5) + 2 * (1 - 1 / 9.5)) / 4
    assert silhouette(np.array([[10.0], [11.0]]), np.array([[0.0], [1.0]])) == pytest.approx(expected)


def test_the_threshold_is_shared_by_all_languages() -> None:
    one = (np.array([4.0, 5.0]), np.array([0.0, 1.0]))
    assert shared_threshold([one]) == pytest.approx(2.5)
    weak = (np.array([0.5, 0.6]), np.array([-2.0, -3.0]))
    assert 0 < shared_threshold([one, one, weak]) < 4


def test_a_language_that_separates_less_has_less_margin_and_auc() -> None:
    layer = planted(shared=1, scale=(1, 1, 1, 0.1))
    directions = language_directions(planted(shared=1, seed=9))
    centred = [part - np.concatenate([h, b]).mean(0) for (h, b) in layer.pairs() for part in (h, b)]
    same_place = LayerActivations(
        LANGUAGES, [p.astype(np.float32) for p in centred[::2]], [p.astype(np.float32) for p in centred[1::2]]
    )
    found = separate(same_place, directions.mean(0))
    assert found["zh"].margin < min(found[code].margin for code in ("ar", "de", "en"))
    assert found["zh"].auc < found["en"].auc == pytest.approx(1.0)
    assert found["zh"].d_prime < found["en"].d_prime and found["zh"].silhouette_along < found["en"].silhouette_along


def test_separable_by_itself_and_above_the_others_threshold_are_two_findings() -> None:
    axis = np.zeros(4)
    axis[0] = 1.0

    def on_axis(*places: float) -> np.ndarray:
        return np.outer(places, axis).astype(np.float32)

    harmful = [on_axis(4, 5, 6), on_axis(4, 5, 6), on_axis(-4, -3, -2)]  # the third: apart, but below the others' line
    harmless = [on_axis(0, 1, 2), on_axis(0, 1, 2), on_axis(-9, -8, -7)]
    found = separate(LayerActivations(("de", "en", "yo"), harmful, harmless), axis)
    assert found["yo"].auc == 1.0 and found["yo"].margin == pytest.approx(-3 - 3)  # the others' line is 3, spread 1
    assert found["en"].auc == 1.0 and found["en"].margin > 0
    alone = separate(LayerActivations(("yo",), harmful[2:], harmless[2:]), axis)
    assert alone["yo"].margin == pytest.approx(-3 + 5.5)


def test_answered_prompts_are_predicted_or_not() -> None:
    along = np.array([1.0, 2.0, 3.0, 4.0])
    assert answered_auc(along, np.array([False, False, True, True])) == 1.0
    assert answered_auc(along, np.array([True, True, True, True])) is None


def test_projection_is_fixed_in_sign_and_shape() -> None:
    layer = planted(shared=1)
    items, explained = project_layer(layer, np.eye(32)[0])
    assert [item.language for item in items] == list(LANGUAGES)
    assert items[0].pc.shape == (80, 2) and items[0].n_harmful == 40 and 0 < explained[1] <= explained[0] < 1
    points = np.concatenate([item.pc for item in items])
    harmful = np.concatenate([np.arange(80) < 40 for _ in items])
    assert (points[harmful].mean(0) >= points[~harmful].mean(0)).all()
    flipped = LayerActivations(LANGUAGES, [-h for h in layer.harmful], [-b for b in layer.harmless])
    mirrored = np.concatenate([item.pc for item in project_layer(flipped, np.eye(32)[0])[0]])
    assert mirrored == pytest.approx(
        -points * np.sign((-points)[harmful].mean(0) - (-points)[~harmful].mean(0)), abs=1e-3
    )


def test_projection_of_constant_rows_is_the_origin() -> None:
    rows = [np.ones((3, 4), dtype=np.float32) for _ in LANGUAGES]
    items, explained = project_layer(LayerActivations(LANGUAGES, rows, rows), np.ones(4))
    assert not items[0].pc.any() and explained == (0.0, 0.0)


def test_site_stability_counts_what_resamples_pick() -> None:
    rng = np.random.default_rng(0)
    clear = np.stack([rng.normal(0, 0.1, 32), rng.normal(5, 0.1, 32)])
    assert site_stability(clear, [(-1, 3), (-1, 4)]).share == 1.0
    tie = np.stack([rng.normal(0, 1, 32), rng.normal(0, 1, 32)])
    found = site_stability(tie, [(-1, 3), (-2, 3)])
    assert found.share < 1 and found.same_layer == pytest.approx(1)
    assert sum(share for _, share in found.picks) == pytest.approx(1)


def test_site_stability_has_the_probability_of_a_normal_comparison() -> None:
    # difference of two sites per prompt: mean 0.2, standard deviation 1, n = 25: P(mean > 0) in the bootstrap is about Phi(1)
    difference = np.random.default_rng(1).normal(size=25)
    difference = 0.2 + (difference - difference.mean()) / difference.std()
    found = site_stability(np.stack([np.zeros(25), difference]), [(-1, 1), (-1, 2)], resamples=4000)
    assert found.share == pytest.approx(0.841, abs=0.03)


def test_direction_stability_rises_with_prompts() -> None:
    small, large = planted(shared=0.3, n=10), planted(shared=0.3, n=200)
    few, many = (direction_stability(layer.harmful[0], layer.harmless[0]) for layer in (small, large))
    assert few.low < many.low <= many.mean <= 1


def test_rows_that_do_not_match_have_no_cosines_but_separate() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(size, 4)).astype(np.float32) for size in (5, 4)]
    layer = LayerActivations(("a", "b"), [part + 3 for part in rows], rows)
    with pytest.raises(ValueError, match="parallel"):
        measure_cosines(layer)
    assert separate(layer, np.ones(4))["b"].auc == 1.0
    with pytest.raises(ValueError, match="at least one prompt"):
        LayerActivations(("a", "b"), rows, [rows[0], rows[1][:0]])
