from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import permutation_test, spearmanr

from refusal_lens.measure import Damage, LeakRow, damage_row, rank_correlation, why_languages_leak


def test_rho_equals_scipy_with_ties() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 6, 14).astype(float), rng.integers(0, 6, 14).astype(float)
    found = rank_correlation(x.tolist(), y.tolist())
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    assert found.rho is not None and -1 < found.low < found.rho < found.high < 1


def test_permutation_p_equals_scipy() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, 1.0, 4.0, 3.0, 6.0, 5.0]
    expected = permutation_test(
        (x,), lambda a: spearmanr(a, y).statistic, permutation_type="pairings", n_resamples=np.inf
    )
    assert rank_correlation(x, y).p_value == pytest.approx(expected.pvalue)


def test_sampled_permutations_agree_with_the_exact_tail() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=14)
    y = x + rng.normal(size=14)
    found = rank_correlation(x.tolist(), y.tolist(), seed=1)
    assert found.p_value == pytest.approx(spearmanr(x, y).pvalue, abs=0.01)


def test_a_perfect_ranking_keeps_an_honest_width() -> None:
    found = rank_correlation([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    assert found.rho == pytest.approx(1) and found.high == pytest.approx(1) and found.low < 0.9


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2, 3], [4, 4, 4]), ([1.0, 2.0], [1.0, 2.0]), ([math.nan] * 9, list(range(9)))]
)
def test_what_does_not_vary_has_no_correlation(x: list[float], y: list[float]) -> None:
    found = rank_correlation([float(v) for v in x], [float(v) for v in y])
    assert found.rho is None and (found.low, found.high) == (-1, 1)


def test_no_rank_correlation_below_six_languages_or_where_most_are_tied() -> None:
    few = rank_correlation([1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0])
    assert few.rho is None and few.why is not None and "5 languages are too few" in few.why
    tied = rank_correlation([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [0.0, 0.0, 0.0, 0.0, 0.3, 0.5, 0.9])
    assert tied.rho is None and tied.why is not None and "4 of 7 languages are tied" in tied.why
    half = rank_correlation([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0, 0.0, 0.0, 0.3, 0.5, 0.9])
    assert half.rho is not None and half.why is None


def test_interval_covers_a_known_correlation() -> None:
    rng = np.random.default_rng(9)
    truth = 6 / math.pi * math.asin(0.6 / 2)  # Spearman's rho of a normal pair with Pearson 0.6
    pairs = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=(400, 14))
    found = [rank_correlation(pair[:, 0].tolist(), pair[:, 1].tolist(), permutations=1) for pair in pairs]
    assert np.mean([item.low <= truth <= item.high for item in found]) >= 0.92


def row(language: str, margin: float, compliance: float, answered: float | None = 0.7, auc: float = 0.8) -> LeakRow:
    return LeakRow(language, "low", auc, margin, margin, compliance, answered)


def words(rows: list[LeakRow]) -> str:
    return why_languages_leak(rows, rank_correlation([r.margin for r in rows], [r.baseline_compliance for r in rows]))


def test_the_paragraph_supports_only_what_the_interval_supports() -> None:
    margins = np.linspace(0, 3, 12)
    down = words([row(f"l{i}", m, 0.9 - 0.25 * m) for i, m in enumerate(margins)])
    up = words([row(f"l{i}", m, 0.1 + 0.25 * m) for i, m in enumerate(margins)])
    open_ = words([row(f"l{i}", m, 0.5 + 0.3 * (-1) ** i) for i, m in enumerate(margins)])
    assert "fits weak separation" in down and "cannot prove" in down
    assert "contradicts" in up
    assert "stays open" in open_ and "includes zero" in open_


def test_separated_but_answered_is_named_as_failing_action() -> None:
    text = words([row("en", 3.0, 0.05), row("de", 2.0, 0.1), row("yo", 2.5, 0.9, auc=0.97), row("ar", 1.0, 0.3)])
    assert "In yo" in text and "action" in text


def test_separable_but_below_the_others_threshold_is_not_called_a_failing_action() -> None:
    text = words([row("en", 3.0, 0.05, auc=1.0), row("yo", -1.5, 0.9, auc=0.97), row("ar", -2.0, 0.8, auc=0.6)])
    assert "In yo harmful prompts are told apart by themselves" in text and "below the threshold" in text
    assert "action" not in text and "In ar harmful prompts are not told apart well" in text


def test_the_paragraph_does_not_invent() -> None:
    assert "nothing can be said" in why_languages_leak([row("en", 1.0, math.nan)], rank_correlation([], []))
    flat = words([row("en", 1.0, 0.0, None), row("de", 2.0, 0.0, None), row("fr", 1.5, 0.0, None)])
    assert "no language leaks more" in flat and "cannot be computed" in flat and "all refused or all answered" in flat


def test_damage_means_and_intervals() -> None:
    rng = np.random.default_rng(0)
    ids = [f"p{i}" for i in range(200)]
    before = rng.normal(2.0, 0.3, 200)
    found = damage_row(
        Damage(ids, rng.exponential(0.1, 200), before, before + 0.05 + rng.normal(0, 0.1, 200)),
        intervention="ablation",
        source="en",
        language="de",
    )
    assert list(found)[:6] == [
        "intervention",
        "source",
        "language",
        "kl",
        "cross_entropy_before",
        "cross_entropy_after",
    ]
    low, high, increase = found["increase_low"], found["increase_high"], found["increase"]
    assert isinstance(low, float) and isinstance(high, float) and isinstance(increase, float)
    standard_error = 0.1 / math.sqrt(200)
    assert low < increase < high and (high - low) == pytest.approx(2 * 1.96 * standard_error, rel=0.2)


def test_a_margin_that_was_not_measured_is_not_above_the_threshold() -> None:
    text = words([row("en", 3.0, 0.05), row("de", 2.0, 0.1), row("yo", math.nan, 0.9, auc=0.97)])
    assert "lie above the threshold" not in text
