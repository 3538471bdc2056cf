from __future__ import annotations

from xml.etree import ElementTree

import pytest
from measure_fakes import cell

from refusal_lens.errors import UserError
from refusal_lens.measure import compare_runs, junit, noise_floor, parse_limits, rate_rows, run_gate


def answers(complied: int, n: int = 40) -> dict[str, int | None]:
    return {f"p{index:02d}": int(index < complied) for index in range(n)}


def audit(en: int, yo: int, *, over: int = 0, n: int = 40) -> list[dict[str, str | int | float | bool | None]]:
    return [
        *cell("baseline", "", "en", answers(en, n)),
        *cell("baseline", "", "yo", answers(yo, n)),
        *cell("baseline", "", "en", answers(n - over, n), prompts="harmless"),
        *cell("ablation", "en", "en", answers(n, n)),
    ]


def test_limits_hold_and_fail_cell_by_cell() -> None:
    checks = run_gate(audit(2, 20), max_compliance={"en": 0.05, "yo": 0.30})
    assert [(check.name, check.passed) for check in checks] == [("compliance.en", True), ("compliance.yo", False)]
    assert checks[1].value == 0.5 and "20 of 40" in checks[1].message


def test_a_limit_for_all_and_one_for_a_language() -> None:
    checks = run_gate(audit(2, 20), max_compliance={"all": 0.01, "yo": 0.6})
    assert [check.passed for check in checks] == [False, True]


def test_overrefusal_needs_harmless_answers() -> None:
    checks = run_gate(audit(0, 0, over=1), max_compliance={}, max_overrefusal=0.05)
    assert [(check.name, check.passed) for check in checks] == [("overrefusal.en", True), ("overrefusal.yo", False)]
    assert "no scored answer" in checks[1].message


def test_unscored_cells_do_not_pass() -> None:
    (check,) = run_gate(cell("baseline", "", "en", {"a": None}), max_compliance={"en": 1.0})
    assert not check.passed and check.value is None


def test_regression_needs_a_significant_rise() -> None:
    failing = run_gate(audit(12, 3), max_compliance={}, against=audit(0, 2))
    assert {check.name: check.passed for check in failing} == {
        "regression.compliance.en": False,
        "regression.compliance.yo": True,
        "regression.overrefusal.en": True,
    }
    better = run_gate(audit(0, 0), max_compliance={}, against=audit(12, 12))
    assert all(check.passed for check in better)


def test_more_refusals_of_harmless_prompts_are_a_regression() -> None:
    checks = run_gate(audit(0, 0, over=15), max_compliance={}, against=audit(0, 0))
    assert [check.name for check in checks if not check.passed] == ["regression.overrefusal.en"]


def test_a_limit_on_an_absent_language_is_a_mistake() -> None:
    with pytest.raises(UserError, match="names fr"):
        run_gate(audit(0, 0), max_compliance={"fr": 0.1})


def test_a_gate_without_a_check_is_a_mistake() -> None:
    with pytest.raises(UserError, match="nothing to check"):
        run_gate(audit(0, 0), max_compliance={})


@pytest.mark.parametrize("text", ["en", "en=", "en=1.5", "en=nan", "", "en=x,yo=0.1", ","])
def test_wrong_limits_are_explained(text: str) -> None:
    with pytest.raises(UserError):
        parse_limits(text)


def test_limits_are_read() -> None:
    assert parse_limits("en=0.05, yo=0.30") == {"en": 0.05, "yo": 0.3}
    assert parse_limits("0.1") == {"all": 0.1}


def test_junit_names_failures_and_escapes() -> None:
    xml = junit(run_gate(audit(2, 20), max_compliance={"all": 0.1}), suite='run "<a&b>"')
    root = ElementTree.fromstring(xml.split("\n", 1)[1])
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    assert [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None] == ["compliance.yo"]


def test_compare_pairs_matching_prompts_only() -> None:
    one = cell("baseline", "", "en", {"a": 0, "b": 0, "c": 1})
    two = cell("baseline", "", "en", {"b": 1, "c": 1, "d": 1})
    rows = compare_runs({"old": one, "new": two})
    assert [row["run"] for row in rows] == ["old", "new"]
    assert rows[0]["difference"] is None
    assert rows[1]["paired"] == 2 and rows[1]["difference"] == 0.5 and rows[1]["reference_rate"] == 0.5
    assert rows[1]["rate"] == 1.0


def test_compare_of_a_run_with_itself_shows_nothing() -> None:
    rows = compare_runs({"a": audit(3, 9), "b": audit(3, 9)})
    assert all(row["difference"] == 0 and row["p_value"] == 1 for row in rows if row["run"] == "b")


def test_noise_floor_is_the_spread_over_seeds() -> None:
    runs = [rate_rows(cell("baseline", "", "en", answers(k))) for k in (10, 12, 14)]
    (row,) = noise_floor(runs)
    assert row["runs"] == 3 and row["mean"] == pytest.approx(0.3)
    assert row["range"] == pytest.approx(0.1) and row["standard_deviation"] == pytest.approx(0.05)
