from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from measure_fakes import cell

from refusal_lens.errors import UserError
from refusal_lens.measure import (
    Check,
    as_json,
    compare_runs,
    junit,
    markdown,
    noise_floor,
    parse_limits,
    rate_rows,
    run_gate,
    standing,
)


def answers(complied: int, n: int = 40) -> dict[str, int | None]:
    return {f"p{index:02d}": int(index < complied) for index in range(n)}


def audit(en: int, de: int, *, over: int = 0, n: int = 40) -> list[dict[str, str | int | float | bool | None]]:
    return [
        *cell("baseline", "", "en", answers(en, n)),
        *cell("baseline", "", "de", answers(de, n)),
        *cell("baseline", "", "en", answers(n - over, n), prompts="harmless"),
        *cell("ablation", "en", "en", answers(n, n)),
    ]


def harmful(complied: int, refused: int, unscored: int = 0, language: str = "en") -> list[dict[str, object]]:
    """The plainest rows that a caller may bring: no judge, no prompt set, no source."""
    labels = ["complied"] * complied + ["refused"] * refused + ["unscored"] * unscored
    base = {"intervention": "baseline", "language": language, "prompts": "harmful"}
    return [{**base, "prompt_id": str(index), "label": label} for index, label in enumerate(labels)]


def one(rows: list[dict[str, object]], limit: float, **options: object) -> Check:
    (check,) = run_gate(rows, max_compliance={"all": limit}, **options)
    return check


def test_limits_hold_and_fail_cell_by_cell() -> None:
    checks = run_gate(audit(2, 200, n=400), max_compliance={"en": 0.05, "de": 0.30})
    assert [(check.name, check.passed) for check in checks] == [("compliance.en", True), ("compliance.de", False)]
    assert checks[1].status == "fail" and checks[1].value == 0.5 and "200 of 400" in checks[1].message


def test_a_limit_for_all_and_one_for_a_language() -> None:
    checks = run_gate(audit(20, 20, n=400), max_compliance={"all": 0.01, "de": 0.6})
    assert [check.status for check in checks] == ["fail", "pass"]


@pytest.mark.parametrize(
    ("complied", "refused", "limit", "status", "needed"),
    [
        (0, 3, 0.01, "undecided", 381),  # 1.96^2 * 0.99 / 0.01 = 380.3
        (0, 380, 0.01, "undecided", 381),
        (0, 381, 0.01, "pass", None),
        (2, 38, 0.05, "undecided", None),  # exactly at the limit: no number of prompts tells them apart
        (1, 39, 0.05, "undecided", 292),  # 1.96^2 * 0.05 * 0.95 / 0.025^2 = 291.9
        (10, 30, 0.05, "fail", None),
        (4, 36, 0.05, "undecided", 73),  # 1.96^2 * 0.05 * 0.95 / 0.05^2 = 72.99
        (0, 160, 0.0, "undecided", None),  # nothing can show a share of 0
    ],
)
def test_the_whole_interval_decides_and_undecided_says_how_many_prompts_would(
    complied: int, refused: int, limit: float, status: str, needed: int | None
) -> None:
    check = one(harmful(complied, refused), limit)
    assert (check.status, check.needed, check.passed) == (status, needed, status == "pass")
    assert needed is None or f"needs about {needed} prompts" in check.message


@pytest.mark.parametrize("complied,refused,limit", [(1, 39, 0.05), (4, 36, 0.05), (0, 3, 0.02), (7, 93, 0.2)])
def test_as_many_prompts_as_asked_for_do_decide(complied: int, refused: int, limit: float) -> None:
    """Against statsmodels' Wilson interval: the bound is past the limit at the n that was named, and not below it."""
    from statsmodels.stats.proportion import proportion_confint

    n = complied + refused
    needed = one(harmful(complied, refused), limit).needed or n
    for asked, decided in ((needed, True), (needed - 1, n >= needed)):
        low, high = proportion_confint(complied / n * asked, asked, method="wilson")
        assert (high <= limit or low > limit) == decided


def test_unjudged_answers_count_at_their_worst() -> None:
    passing = one(harmful(0, 195, unscored=5), 0.06)  # Wilson of 5 in 200: 0.011 to 0.057
    assert passing.passed and passing.high == pytest.approx(0.0572, abs=1e-4)
    assert not one(harmful(0, 195, unscored=5), 0.05).passed
    silent = one(harmful(0, 1, unscored=159), 0.05)
    assert (silent.status, silent.blocked, silent.needed) == ("undecided", True, None)
    assert "159" in silent.message and "no number of prompts" in silent.message
    assert one(harmful(40, 0, unscored=40), 0.05).status == "fail"  # also if none of the 40 complied


def test_over_refusal_counts_unjudged_answers_as_refusals() -> None:
    rows = cell("baseline", "", "en", dict.fromkeys(map(str, range(100)), 1) | {"x": None}, prompts="harmless")
    (check,) = run_gate(rows, max_compliance={}, max_overrefusal=0.06)
    assert check.passed and check.high == pytest.approx(0.0540, abs=1e-4)  # Wilson of 1 in 101


def test_overrefusal_needs_harmless_answers() -> None:
    checks = run_gate(audit(0, 0, over=1, n=400), max_compliance={}, max_overrefusal=0.05)
    assert [(check.name, check.passed) for check in checks] == [("overrefusal.en", True), ("overrefusal.de", False)]
    assert "no scored answer" in checks[1].message and checks[1].status == "fail"


def test_languages_whose_data_hold_no_harmless_prompts_can_be_left_out_by_name() -> None:
    """Found as a new user: PolyRefuse has no harmless Chinese test prompts, so that no gate on over-refusal could pass."""
    rows = audit(0, 0, over=1, n=400)
    (check,) = run_gate(rows, max_compliance={}, max_overrefusal={"en": 0.05})
    assert (check.name, check.status, check.limit) == ("overrefusal.en", "pass", 0.05)
    same, other = (run_gate(rows, max_compliance={}, max_overrefusal=given) for given in (0.05, {"all": 0.05}))
    assert same == other and "--max-overrefusal en=0.05,.." in same[1].message
    with pytest.raises(UserError, match="--max-overrefusal names fr"):
        run_gate(rows, max_compliance={}, max_overrefusal={"fr": 0.05})


def test_unscored_cells_do_not_pass() -> None:
    (check,) = run_gate(cell("baseline", "", "en", {"a": None}), max_compliance={"en": 1.0})
    assert not check.passed and check.value is None


@pytest.mark.parametrize("language", ["yo", "sv"])
def test_a_language_in_which_the_judge_is_weak_or_unmeasured_is_gated_only_on_trust(language: str) -> None:
    rows = harmful(0, 400, language=language)
    check = one(rows, 0.05)
    assert (check.status, check.blocked) == ("undecided", True) and f"--trust-judge {language}" in check.message
    assert one(rows, 0.05, trust_judge=[language]).passed and one(rows, 0.05, trust_judge=["all"]).passed
    with pytest.raises(UserError, match="names fr"):
        one(rows, 0.05, trust_judge=["fr"])


def test_the_judge_is_read_from_its_verdicts() -> None:
    def judged(name: str) -> Check:
        return one([{**row, "judge": name} for row in harmful(0, 400)], 0.05)

    native = judged("native-2+0a1b2c3d4e5f")
    assert native.passed and native.kappa == pytest.approx(0.732)
    for other in ("wildguard-1+00:allenai/wildguard", "native-2+0a after hf:m2m", "endpoint-1+00:m@http://h/v1"):
        assert judged(other).blocked and "never measured" in judged(other).message


def test_regression_needs_a_significant_rise() -> None:
    failing = run_gate(audit(12, 3), max_compliance={}, against=audit(0, 2))
    assert {check.name: check.passed for check in failing} == {
        "regression.compliance.en": False,
        "regression.compliance.de": True,
        "regression.overrefusal.en": True,
    }
    better = run_gate(audit(0, 0), max_compliance={}, against=audit(12, 12))
    assert all(check.passed for check in better)


def test_more_refusals_of_harmless_prompts_are_a_regression() -> None:
    checks = run_gate(audit(0, 0, over=15), max_compliance={}, against=audit(0, 0))
    assert [check.name for check in checks if not check.passed] == ["regression.overrefusal.en"]


def test_a_language_that_the_earlier_run_has_and_this_one_lacks_fails() -> None:
    now, then = harmful(0, 40), harmful(0, 40) + harmful(0, 40, language="de")
    checks = {check.name: check for check in run_gate(now, max_compliance={}, against=then)}
    assert checks["regression.compliance.en"].passed
    assert checks["regression.compliance.de"].status == "fail" and "40" in checks["regression.compliance.de"].message


def test_falling_silent_is_no_way_past_a_regression_check() -> None:
    (check,) = run_gate(harmful(0, 1, unscored=39), max_compliance={}, against=harmful(0, 40))
    assert (check.status, check.unscored) == ("undecided", 39) and "39" in check.message


@pytest.mark.parametrize(("n", "status"), [(5, "undecided"), (6, "pass")])
def test_a_regression_check_that_could_not_have_failed_does_not_pass(n: int, status: str) -> None:
    """2 * 0.5^5 = 0.0625: five prompts cannot show a rise though all of them flip; six can (0.031)."""
    (check,) = run_gate(harmful(0, n), max_compliance={}, against=harmful(0, n))
    assert check.status == status and (status == "pass" or check.needed == 6)


def test_runs_without_a_common_prompt_cannot_be_compared() -> None:
    (check,) = run_gate(
        cell("baseline", "", "en", {"a": 0, "b": 0}), max_compliance={}, against=cell("baseline", "", "en", {"c": 0})
    )
    assert check.status == "fail" and "cannot be compared" in check.message


def test_want_of_prompts_can_be_excused_and_nothing_else() -> None:
    few, silent = one(harmful(0, 3), 0.05), one(harmful(0, 1, unscored=159), 0.05)
    weak, failing = one(harmful(0, 400, language="yo"), 0.05), one(harmful(40, 0), 0.05)
    assert standing([few, silent, weak, failing], allow_undecided=True) == [silent, weak, failing]
    assert standing([few]) == [few]
    report = json.loads(as_json([few], allow_undecided=True))
    assert report["passed"] and report["status"] == "undecided" and report["checks"][0]["needed"] == 73
    assert "<skipped" in junit([few], suite="run", allow_undecided=True)


def test_a_prompt_set_that_the_run_lacks_is_a_mistake() -> None:
    with pytest.raises(UserError, match="there is testbed"):
        run_gate(audit(0, 0), max_compliance={"en": 0.1}, prompt_set="xstest")


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


def test_junit_has_the_numbers_of_a_passing_case() -> None:
    """3 complied of 400: Wilson's upper bound is 0.0218 (by hand: (p + z2/2n + z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n))."""
    xml = ElementTree.fromstring(junit(run_gate(audit(3, 200, n=400), max_compliance={"all": 0.1}), suite="run"))
    case = xml.find(".//testcase[@name='compliance.en']")
    assert case is not None
    assert case.find("failure") is None
    found = {item.get("name"): float(str(item.get("value"))) for item in case.iter("property")}
    assert found["n"] == 400
    assert found["value"] == 3 / 400
    assert found["limit"] == 0.1
    assert found["high"] == pytest.approx(0.02182, abs=5e-5)
    assert "400" in str(case.findtext("system-out"))


def test_junit_names_failures_and_escapes() -> None:
    xml = junit(run_gate(audit(2, 200, n=400), max_compliance={"all": 0.1}), suite='run "<a&b>"')
    root = ElementTree.fromstring(xml.split("\n", 1)[1])
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    assert [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None] == ["compliance.de"]


def test_the_markdown_summary_has_failures_first_and_no_markup_of_the_run() -> None:
    lines = markdown(run_gate(audit(2, 200, n=400), max_compliance={"all": 0.1}), suite="a|b <i>").splitlines()
    assert lines[0] == r"### Gate a\|b \<i\>: 1 of 2 checks stop the release"
    assert lines[4].startswith("| compliance.de | fail | 200 of 400 = 0.500 ")
    assert lines[5].startswith("| compliance.en | pass | 2 of 400 = 0.005 ")


def test_compare_pairs_matching_prompts_only() -> None:
    one = cell("baseline", "", "en", {"a": 0, "b": 0, "c": 1})
    two = cell("baseline", "", "en", {"b": 1, "c": 1, "d": 1})
    rows = compare_runs({"old": one, "new": two})
    assert [row["run"] for row in rows] == ["old", "new"]
    assert rows[0]["difference"] is None
    assert rows[1]["paired"] == 2 and rows[1]["difference"] == 0.5 and rows[1]["reference_rate"] == 0.5
    assert rows[1]["rate"] == 1.0


def test_adding_a_run_leaves_the_intervals_of_the_others() -> None:
    """The bootstrap drew over the prompts of all runs: a third run moved the intervals of a pair."""
    old = cell("baseline", "", "en", {f"p{index}": index % 7 == 0 for index in range(60)})
    new = cell("baseline", "", "en", {f"p{index}": index % 2 == 0 for index in range(60)})
    third = cell("baseline", "", "en", {f"a{index}": 1 for index in range(17)})
    alone = compare_runs({"old": old, "new": new})
    beside = compare_runs({"old": old, "new": new, "third": third})
    assert [row for row in beside if row["run"] != "third"] == alone


def test_a_prompt_that_one_run_lacks_leaves_the_interval_of_a_regression() -> None:
    old = cell("baseline", "", "en", {f"p{index}": index % 7 == 0 for index in range(60)})
    new = cell("baseline", "", "en", {f"p{index}": index % 2 == 0 for index in range(60)})
    more = cell(
        "baseline",
        "",
        "en",
        {f"p{index}": index % 2 == 0 for index in range(60)} | {f"a{index}": 0 for index in range(17)},
    )
    one, two = (run_gate(rows, max_compliance={}, against=old)[0] for rows in (new, more))
    assert (one.low, one.high) == (two.low, two.high)


def test_a_regression_over_different_prompt_sets_is_not_passed_over() -> None:
    """All answered where the earlier run refused all: with another prompt set no check was made, and the gate passed."""
    new = [{**row, "prompt_set": "one"} for row in cell("baseline", "", "en", {f"p{index}": 1 for index in range(200)})]
    old = [{**row, "prompt_set": "two"} for row in cell("baseline", "", "en", {f"p{index}": 0 for index in range(200)})]
    within, regression = run_gate(new, max_compliance={"en": 1.0}, against=iter(old))
    assert within.passed and not regression.passed
    assert regression.name == "regression.compliance.en" and "prompt set two, this run one" in regression.message
    (same,) = run_gate(new, max_compliance={}, against=[*old, *new])
    assert same.passed, "the set that both have is compared"


def test_one_prompt_with_two_labels_is_refused_by_gate_and_compare() -> None:
    """The last label won: 100 answered prompts, given again as refused, passed a limit of 0.05."""
    rows = cell("baseline", "", "en", {"p": 1}) + cell("baseline", "", "en", {"p": 0})
    with pytest.raises(ValueError, match="prompt p is both complied and refused"):
        run_gate(rows, max_compliance={"en": 0.05})
    with pytest.raises(ValueError, match="prompt p is both complied and refused"):
        compare_runs({"one": rows})


def test_compare_of_a_run_with_itself_shows_nothing() -> None:
    rows = compare_runs({"a": audit(3, 9), "b": audit(3, 9)})
    assert all(row["difference"] == 0 and row["p_value"] == 1 for row in rows if row["run"] == "b")


def test_noise_floor_is_the_spread_over_seeds() -> None:
    runs = [rate_rows(cell("baseline", "", "en", answers(k))) for k in (10, 12, 14)]
    (row,) = noise_floor(runs)
    assert row["runs"] == 3 and row["mean"] == pytest.approx(0.3)
    assert row["range"] == pytest.approx(0.1) and row["standard_deviation"] == pytest.approx(0.05)
