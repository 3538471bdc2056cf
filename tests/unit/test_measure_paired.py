from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from refusal_lens.measure import (
    BootstrapWeights,
    compare_paired,
    difference_of_rates,
    holm,
    mcnemar_exact,
    mcnemar_power,
    minimum_detectable_effect,
)
from refusal_lens.measure.paired import bootstrap_means, newcombe_paired


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_statsmodels(gained: int, lost: int) -> None:
    expected = mcnemar([[5, lost], [gained, 7]], exact=True).pvalue if gained + lost else 1.0
    assert mcnemar_exact(gained, lost) == pytest.approx(min(1.0, expected), rel=1e-9)


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_holm_equals_statsmodels(size: int) -> None:
    rng = np.random.default_rng(size)
    p_values = [*(rng.random(size) ** 4).tolist(), 0.0, 1.0, 0.01, 0.01]
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-12)


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]


def test_newcombe_reproduces_the_published_example() -> None:
    # Newcombe 1998, paired case, method 10: cells 36, 12, 2, 0
    assert newcombe_paired(both=36, gained=12, lost=2, n=50) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@given(st.integers(0, 80), st.integers(1, 80), st.integers(0, 80), st.integers(1, 80))
def test_independent_difference_equals_statsmodels(k_a: int, n_a: int, k_b: int, n_b: int) -> None:
    k_a, k_b = min(k_a, n_a), min(k_b, n_b)
    low, high = confint_proportions_2indep(k_a, n_a, k_b, n_b, method="newcomb", compare="diff")
    assert difference_of_rates(k_a, n_a, k_b, n_b)[1:] == pytest.approx((low, high), abs=1e-9)


def test_bootstrap_of_means_equals_scipy() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(-1, 2, size=80).astype(np.float64)
    names = [f"p{index}" for index in range(80)]
    weights = BootstrapWeights(names, resamples=8000, seed=1).of(names)
    drawn = np.quantile(bootstrap_means(values, weights=weights), (0.025, 0.975))
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=8000, random_state=2).confidence_interval
    assert drawn == pytest.approx((expected.low, expected.high), abs=0.015)


def test_bootstrap_is_clustered_by_prompt() -> None:
    # every prompt stands twice: the interval must be that of 40 prompts, not of 80 answers
    rng = np.random.default_rng(5)
    once = rng.integers(0, 2, size=40).astype(np.float64)
    names = [f"p{index}" for index in range(40)]
    weights = BootstrapWeights(names, resamples=4000, seed=0)
    single = bootstrap_means(once, weights=weights.of(names))
    double = bootstrap_means(np.concatenate([once, once]), weights=weights.of(names + names))
    assert double == pytest.approx(single)


def test_a_full_flip_has_an_interval_with_a_width() -> None:
    names = [f"p{index}" for index in range(30)]
    weights = BootstrapWeights(names).of(names)
    found = compare_paired(np.zeros(30, dtype=int), np.ones(30, dtype=int), weights=weights)
    assert found.difference == 1 and found.high == 1 and 0.7 < found.low < 0.95
    assert found.p_value == pytest.approx(2 * 0.5**30)


def test_nothing_paired_says_nothing() -> None:
    found = compare_paired(np.zeros(0, dtype=int), np.zeros(0, dtype=int), weights=np.zeros((5, 0), dtype=int))
    assert found.n == 0 and math.isnan(found.p_value) and (found.low, found.high) == (-1, 1)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
def test_swapping_before_and_after_mirrors_everything(pairs: list[tuple[int, int]]) -> None:
    before, after = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    names = [f"p{index}" for index in range(len(pairs))]
    weights = BootstrapWeights(names, resamples=200).of(names)
    one, two = compare_paired(before, after, weights=weights), compare_paired(after, before, weights=weights)
    assert one.difference == pytest.approx(-two.difference) and one.p_value == pytest.approx(two.p_value)
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low), abs=1e-9)
    assert one.low <= one.difference <= one.high


def test_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(11)
    names = [f"p{index}" for index in range(60)]
    weights = BootstrapWeights(names, resamples=400).of(names)
    hits = 0
    for _ in range(300):
        before = rng.random(60) < 0.1
        after = np.where(rng.random(60) < 0.6, True, before)
        found = compare_paired(before.astype(int), after.astype(int), weights=weights)
        hits += found.low <= 0.6 * 0.9 <= found.high
    assert hits / 300 >= 0.93


def test_power_equals_direct_simulation() -> None:
    rng = np.random.default_rng(0)
    n, gain, loss = 40, 0.25, 0.05
    moves = rng.multinomial(n, [gain, loss, 1 - gain - loss], size=20_000)
    unique = {(g, lost): mcnemar_exact(int(g), int(lost)) for g, lost in np.unique(moves[:, :2], axis=0)}
    simulated = np.mean([unique[g, lost] < 0.05 for g, lost in moves[:, :2]])
    assert mcnemar_power(n, gain=gain, loss=loss) == pytest.approx(simulated, abs=0.012)


def test_power_of_one_sided_flips_is_a_binomial_tail() -> None:
    # without losses the exact test rejects at 5 % from six flips on
    assert mcnemar_power(50, gain=0.2) == pytest.approx(binom.sf(5, 50, 0.2))


def test_minimum_detectable_effect_has_its_power_and_shrinks_with_n() -> None:
    small, large = minimum_detectable_effect(50), minimum_detectable_effect(500)
    assert small is not None and large is not None and large < small
    assert mcnemar_power(50, gain=small) >= 0.8 > mcnemar_power(50, gain=small - 0.002)
    assert minimum_detectable_effect(5) is None
