"""Selection rules on tables written by hand: filters, reasons, ties, zero vectors, empty outcomes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from refusal_lens.directions import CandidateScore, layer_limit, published_rows, read_scores, select
from refusal_lens.directions.selection import ZERO_VECTOR
from refusal_lens.errors import DataError


def candidate(
    position: int, layer: int, refusal: float | None, steering: float | None = 1.0, kl: float | None = 0.05
) -> CandidateScore:
    return CandidateScore(position, layer, refusal, steering, kl)


def test_lowest_refusal_score_wins_and_every_loser_has_its_reason() -> None:
    scores = [
        candidate(-2, 1, -1.0),
        candidate(-2, 2, -3.0, kl=0.21),
        candidate(-2, 3, -2.0, kl=0.2),
        candidate(-2, 8, -9.0),
        candidate(-1, 1, math.nan),
        candidate(-1, 2, -1.5, steering=-0.1),
    ]
    choice = select(scores, n_layers=10)
    assert choice.selected == scores[2]
    assert choice.survivors == (scores[2], scores[5], scores[0])
    reasons = {(item.candidate.position, item.candidate.layer): item.reason for item in choice.discarded}
    assert set(reasons) == {(-2, 2), (-2, 8), (-1, 1)}
    assert "KL 0.21 > 0.2" in reasons[-2, 2]
    assert "last 20 % of layers (from 8 on)" in reasons[-2, 8]
    assert "refusal score is not a number" in reasons[-1, 1]


def test_arditi_rule_is_stricter_in_both_ways() -> None:
    scores = [
        candidate(-1, 1, -3.0, kl=0.15),
        candidate(-1, 2, -2.0, steering=-0.01),
        candidate(-1, 3, -1.0, steering=0.0),
    ]
    choice = select(scores, n_layers=10, rule="arditi")
    assert choice.selected == scores[2]
    assert choice.kl_threshold == 0.1
    assert select(scores, n_layers=10, rule="arditi", kl_threshold=0.15).selected == scores[0]


def test_ties_go_to_the_first_in_sweep_order() -> None:
    scores = [candidate(-5, 2, -1.0), candidate(-5, 1, -1.0), candidate(-1, 0, -1.0, kl=0.01)]
    assert select(scores, n_layers=10).selected == scores[0]


@pytest.mark.parametrize(("n_layers", "limit"), [(6, 4), (10, 8), (12, 9), (24, 19), (28, 22), (32, 25), (1, 0)])
def test_the_last_fifth_is_cut_with_the_published_arithmetic(n_layers: int, limit: int) -> None:
    assert layer_limit(n_layers) == limit == int(n_layers * (1.0 - 0.2))


def test_zero_vectors_are_dropped_by_name_but_a_lone_quiet_candidate_is_not() -> None:
    zeros = [candidate(position, 0, -5.0, kl=0.0) for position in (-3, -2)]
    real = candidate(-1, 1, -1.0, kl=0.0)
    choice = select([*zeros, real], n_layers=10)
    assert choice.selected == real
    assert all(item.reason == ZERO_VECTOR for item in choice.discarded)
    assert select([zeros[0], real], n_layers=10).selected == zeros[0]


def test_nothing_left_is_an_answer_with_counts_and_the_nearest_candidate() -> None:
    scores = [candidate(-1, 1, -4.0, kl=0.3), candidate(-1, 2, -2.0, kl=0.25), candidate(-1, 9, -8.0, kl=0.5)]
    choice = select(scores, n_layers=10)
    assert choice.selected is None
    assert choice.survivors == ()
    assert choice.best_discarded == scores[0]
    assert "KL > 0.2: 3" in choice.reason
    assert "last 20 % of layers: 1" in choice.reason
    assert select([], n_layers=10).selected is None
    json.dumps(asdict(choice))


def test_scores_that_were_not_measured_never_win() -> None:
    scores = [
        CandidateScore(-1, 1, None, None, 0.01, skipped="race: behind"),
        CandidateScore(-1, 2, -1.0, None, 0.01, skipped="steering not measured"),
    ]
    choice = select(scores, n_layers=10)
    assert choice.selected == scores[1]
    assert choice.discarded[0].reason == "race: behind"
    assert select(scores, n_layers=10, rule="arditi").selected is None


def test_score_files_round_trip_and_hold_exactly_the_published_fields(tmp_path: Path) -> None:
    scores = [candidate(-2, 0, -1.0), CandidateScore(-2, 1, None, None, 0.4, skipped="why")]
    rows = published_rows(scores)
    assert list(rows[0]) == ["position", "layer", "refusal_score", "steering_score", "kl_div_score"]
    assert rows[1]["skipped"] == "why"
    (tmp_path / "scores.json").write_text(json.dumps(rows), encoding="utf-8")
    assert read_scores(tmp_path / "scores.json") == scores
    assert published_rows([candidate(-1, 1, math.nan)])[0]["refusal_score"] is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "broken JSON at line 1"),
        ("[]", "an empty list"),
        ('{"position": -1}', "a JSON dict"),
        ("[3]", "entry 0"),
        ('[{"position": -1, "layer": 1.5}]', "layer"),
        ('[{"position": 0, "layer": 1}]', "a position is negative"),
        ('[{"position": -1, "layer": 1, "refusal_score": "x"}]', "refusal_score"),
        ('[{"position": -1, "layer": 1}, {"position": -1, "layer": 1}]', "occurs twice"),
    ],
)
def test_broken_score_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "scores.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_scores(file)
