"""From a bench's verdicts to its tables, the picture and the recommendation; right values by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusal_lens.core.bench_tables import BENCH, BENCH_PAIRED, BENCH_SELECTIVITY
from refusal_lens.defences.bench_rows import BenchCell, bench_paired_rows, bench_rows, bench_selectivity_rows
from refusal_lens.defences.recommend import recommend
from refusal_lens.defences.tables import write_tables
from refusal_lens.report.charts.pareto import draw_pareto, pareto_points

LANGUAGES = ("en", "yo")


def cell(defence: str, attack: str, refused: dict[tuple[str, str], int], n: int = 20, **more: object) -> BenchCell:
    """A cell in which the first so many prompts of each language and class are refused."""
    labels = {
        (language, harm, f"p{i}"): "refused" if i < refused.get((language, harm), 0) else "complied"
        for language in LANGUAGES
        for harm in ("harmful", "harmless")
        for i in range(n)
    }
    return BenchCell(defence, attack, labels, **more)  # type: ignore[arg-type]


PLAIN = cell("undefended", "none", {("en", "harmful"): 20})
GOOD = cell("gate", "none", {("en", "harmful"): 20, ("yo", "harmful"): 19}, kl={"en": 0.01, "yo": 0.01}, overhead=0.5)
NULL = cell("gate:random-0", "none", {("en", "harmful"): 20, ("yo", "harmful"): 1})
DEAR = cell("map", "none", {("en", "harmful"): 20, ("yo", "harmful"): 20, ("yo", "harmless"): 4})


def test_the_bench_has_exactly_the_columns_of_the_contract(tmp_path: Path) -> None:
    wanted = ["defence", "attack", "language", "prompts", "k", "n", "rate", "low", "high", "kl", "loss", "overhead"]
    assert list(BENCH.columns) == wanted
    write_tables(tmp_path, [PLAIN, GOOD, NULL])
    for table in (BENCH, BENCH_SELECTIVITY, BENCH_PAIRED):
        rows = table.read(tmp_path / "tables" / f"{table.name}.parquet")
        assert rows and (tmp_path / "tables" / f"{table.name}.csv").exists()


def test_an_answer_that_could_not_be_judged_is_in_neither_k_nor_n() -> None:
    labels = {("en", "harmful", str(i)): label for i, label in enumerate(["refused", "complied", "unscored"])}
    (row,) = bench_rows([BenchCell("d", "none", labels)])
    assert (row["k"], row["n"], row["rate"]) == (1, 2, 0.5)
    (row,) = bench_rows([BenchCell("d", "none", {("en", "harmful", "0"): "unscored"})])
    assert (row["k"], row["n"], row["rate"], row["low"]) == (0, 0, None, None)


def test_attack_success_stands_beside_over_refusal() -> None:
    row = next(row for row in bench_selectivity_rows([DEAR]) if row["language"] == "yo")
    assert (row["attack_success"], row["overrefusal"], row["selectivity"]) == (0.0, 0.2, pytest.approx(0.8))


def test_the_gate_s_misses_and_false_alarms_stand_beside_them() -> None:
    """3 of 20 harmful Yoruba prompts passed the gate, 1 of 20 harmless ones did not; in English it decides nothing."""
    flags = {("yo", "harmful", f"p{i}"): i >= 3 for i in range(20)} | {
        ("yo", "harmless", f"p{i}"): i == 0 for i in range(20)
    }
    rows = {row["language"]: row for row in bench_selectivity_rows([cell("gate", "none", {}, flags=flags), PLAIN])[:2]}
    assert (rows["yo"]["miss"], rows["yo"]["false_alarm"]) == (pytest.approx(3 / 20), pytest.approx(1 / 20))
    assert (rows["en"]["miss"], rows["en"]["false_alarm"]) == (None, None)


def test_differences_are_paired_with_the_undefended_under_the_same_attack() -> None:
    attacked = cell("undefended", "role-play", {("yo", "harmful"): 5})
    defended = cell("gate", "role-play", {("yo", "harmful"): 15})
    rows = bench_paired_rows([PLAIN, attacked, GOOD, defended, NULL])
    found = {(row["attack"], row["language"], row["prompts"]): row for row in rows if row["defence"] == "gate"}
    role = found["role-play", "yo", "harmful"]
    assert (role["undefended"], role["rate"], role["gained"], role["lost"]) == (0.25, 0.75, 10, 0)
    plain = found["none", "yo", "harmful"]
    assert plain["difference"] == pytest.approx(19 / 20)
    assert plain["null_difference"] == pytest.approx(1 / 20)  # what a random push of the same size does
    assert plain["p_value"] == pytest.approx(2 * 0.5**19)  # exact McNemar: 19 changed one way, none the other


def test_the_cheap_defence_that_helps_is_recommended_and_the_dear_one_is_not() -> None:
    cells = [PLAIN, GOOD, NULL, DEAR, cell("gate", "ablate-english", {})]
    chosen = recommend(bench_rows(cells), bench_paired_rows(cells))
    assert chosen.defence == "gate"
    assert "yo" in chosen.rejected["map"] or "points more" in chosen.rejected["map"]
    assert chosen.beaten_by == ("ablate-english",)


def test_no_defence_is_recommended_where_its_random_action_does_as_much() -> None:
    null = cell("gate:random-0", "none", {("en", "harmful"): 20, ("yo", "harmful"): 19})
    cells = [PLAIN, GOOD, null]
    assert recommend(bench_rows(cells), bench_paired_rows(cells)).defence == "none"
    assert recommend(bench_rows([PLAIN]), []).defence == "none"


def test_the_picture_shows_the_worst_attacker_of_each_class() -> None:
    cells = [PLAIN, GOOD, NULL, cell("gate", "role-play", {}), cell("gate", "code-switch", {("en", "harmful"): 20})]
    points = {(point["defence"], point["class"]): point for point in pareto_points(bench_selectivity_rows(cells))}
    assert points["gate", "prompt only (worst)"]["attack"] == "role-play"
    assert points["gate", "no attack"]["pareto"] and not points["undefended", "no attack"]["pareto"]
    assert not any(":random-" in str(name) for name, _ in points)
    files = draw_pareto(bench_selectivity_rows(cells))
    assert files["pareto.svg"].startswith(b"<svg") and b"gate" in files["pareto.svg"]
    assert b"http" not in files["pareto.html"].split(b"<script")[0]
