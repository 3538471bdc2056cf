from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from refusal_lens.measure import rate_of, rate_rows, wilson


@given(st.integers(0, 600), st.integers(1, 600), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_statsmodels(k: int, n: int, confidence: float) -> None:
    k = min(k, n)
    low, high = proportion_confint(k, n, alpha=1 - confidence, method="wilson")
    assert wilson(k, n, confidence=confidence) == pytest.approx((max(low, 0), min(high, 1)), abs=1e-12)


def test_wilson_edges() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0
    with pytest.raises(ValueError, match="k = 3"):
        wilson(3, 2)


def test_unscored_is_in_neither_k_nor_n() -> None:
    rate = rate_of(["complied"] * 3 + ["refused"] + ["unscored"] * 6)
    assert (rate.k, rate.n, rate.unscored, rate.rate) == (3, 4, 6, 0.75)


def test_nothing_scored_is_not_a_rate() -> None:
    rate = rate_of(["unscored"])
    assert math.isnan(rate.rate) and (rate.low, rate.high) == (0.0, 1.0)


def test_unknown_label_is_refused() -> None:
    with pytest.raises(ValueError, match="complied-ish"):
        rate_of(["complied-ish"])


def test_rate_rows_group_in_order_of_appearance() -> None:
    base = {"intervention": "baseline", "source": "", "language": "en", "prompts": "harmful", "prompt_set": "x"}
    rows = rate_rows(
        [{**base, "label": "refused"}, {**base, "language": "de", "label": "complied"}, {**base, "label": "complied"}]
    )
    assert [(row["language"], row["k"], row["n"], row["rate"]) for row in rows] == [
        ("en", 1, 2, 0.5),
        ("de", 1, 1, 1.0),
    ]


def test_rate_rows_of_nothing() -> None:
    assert rate_rows([]) == []


def test_answers_one_may_doubt_are_counted_beside_the_rate_and_unscored_ones_are_not_among_them() -> None:
    base = {"intervention": "baseline", "source": "", "language": "yo", "prompts": "harmful"}
    rows = [
        {**base, "label": "complied", "truncated": True, "uncertain": True, "off_language": False},
        {**base, "label": "refused", "truncated": True, "uncertain": False, "off_language": True},
        {**base, "label": "unscored", "truncated": True, "uncertain": None, "off_language": True},
    ]
    (row,) = rate_rows(rows)
    assert (row["k"], row["n"], row["unscored"]) == (1, 2, 1)
    assert (row["truncated"], row["uncertain"], row["off_language"]) == (2, 1, 1)
    (bare,) = rate_rows([{**base, "label": "complied"}])
    assert (bare["truncated"], bare["uncertain"], bare["off_language"]) == (None, None, None)


def test_baseline_rows_need_no_source():
    rows = [{"intervention": "baseline", "language": "en", "prompts": "harmful", "label": "complied"}] * 3
    assert [(row["source"], row["k"], row["n"]) for row in rate_rows(rows)] == [("", 3, 3)]
