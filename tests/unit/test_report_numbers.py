"""Numbers and text as the report writes them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_lens.report.shares import NullShare, Share, interval, number, percent, points
from refusal_lens.report.text import clean, clean_value, listing, shorten, visible_token


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.002, "<1 %"), (0.998, ">99 %"), (0.5, "50 %"), (0.004999, "<1 %"), (None, "–")],
)
def test_percent_never_rounds_a_partial_share_to_none_or_all(value: float | None, shown: str) -> None:
    assert percent(value).replace("\xa0", " ") == shown


def test_complement_mirrors_counts_and_interval() -> None:
    share = Share(k=97, n=100, unscored=4, rate=0.97, low=0.915, high=0.99)
    other = share.complement
    assert (other.k, other.n, other.unscored) == (3, 100, 4)
    assert (other.rate, other.low, other.high) == pytest.approx((0.03, 0.01, 0.085))
    assert (other.complement.k, other.complement.low) == (share.k, pytest.approx(share.low))
    assert interval(share) == "[92, 99]"


def test_share_without_judged_answers_has_no_rate_on_either_side() -> None:
    empty = Share(0, 0, 12, None, 0.0, 1.0)
    assert empty.complement.rate is None
    assert percent(empty.complement.rate) == "–"


def test_null_share_is_the_mean_over_directions() -> None:
    assert NullShare((0.1, 0.2, 0.6), 300).mean == pytest.approx(0.3)
    assert NullShare((), 0).mean is None


def test_signs_are_true_minus_and_zero_has_none() -> None:
    assert (points(-0.123), points(0.123), points(-0.001), points(None)) == ("−12", "+12", "0", "–")
    assert (number(-1.5), number(0.0001), number(None)) == ("−1.50", "1.0e−04", "–")


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "link"),
        ("a\u202eb\u2066c\u200b\ufeff", "abc"),
        ("line\r\nnext\ttab", "line\nnext\ttab"),
        ("bell\x07 nul\x00 del\x7f c1\x9b31m", "bell nul del c1"),
        ("tag\U000e0041\udc80", "tag"),
        ("نیم\u200cفاصله", "نیم\u200cفاصله"),
    ],
)
def test_clean_removes_what_acts_and_keeps_what_is_written(raw: str, kept: str) -> None:
    assert clean(raw) == kept


@given(st.text())
def test_clean_leaves_no_control_character_and_is_idempotent(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert all(letter in "\n\t" or unicodedata.category(letter) not in {"Cc", "Cs"} for letter in cleaned)
    cleaned.encode("utf-8")


def test_clean_reaches_every_string_of_a_json_value() -> None:
    assert clean_value({"a\u202e": ["\x1b[1mb", {"c": 1, "d": None}]}) == {"a": ["b", {"c": 1, "d": None}]}


def test_tokens_show_their_blanks() -> None:
    assert visible_token(" I\n") == "␣I⏎"
    assert visible_token("\u202e") == "(empty)"


def test_listing_and_shortening() -> None:
    assert (listing([]), listing(["a"]), listing(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert shorten("abcdef", limit=4) == "abc…"
