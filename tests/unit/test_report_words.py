"""The headline's words follow the numbers: what is claimed, what is hedged, what is said to be missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from refusal_lens.core.tables import RATES, TRANSFER
from refusal_lens.languages import Reliability
from refusal_lens.report import Facts, headline, read_inputs, verdict_of
from refusal_lens.report.charts import transfer_figure
from refusal_lens.report.leaks import leak_words
from refusal_lens.report.readers import answers, for_readers
from refusal_lens.rundir import RunDir
from report_runs import LANGUAGES, make_run, write_rows


def words_of(facts: Facts) -> str:
    return " ".join(statement.text for statement in headline(facts)).replace("\xa0", " ")


def rate(
    intervention: str, source: str, language: str, prompts: str, k: int, n: int, unscored: int = 0
) -> dict[str, object]:
    from refusal_lens.measure import wilson

    low, high = wilson(k, n)
    return {
        "intervention": intervention,
        "source": source,
        "language": language,
        "prompts": prompts,
        "k": k,
        "n": n,
        "unscored": unscored,
        "rate": k / n if n else None,
        "low": low,
        "high": high,
        "prompt_set": "testbed",
    }


def facts_with(folder: Path, rates: list[dict[str, object]], *, sources: tuple[str, ...] = ("en",)) -> Facts:
    languages = tuple(dict.fromkeys(str(row["language"]) for row in rates))
    left = ("transfer", "content", "damage", "cosines", "projection", "separation", "verdict", "geometry", "unscored")
    run = make_run(folder / "run", languages=languages, sources=sources, leave_out=left)
    write_rows(run, "rates", rates)
    return Facts(read_inputs(run.root))


def untouched(folder: Path, counts: dict[str, tuple[int, int]]) -> str:
    rows = [rate("baseline", "", code, "harmful", k, n) for code, (k, n) in counts.items()]
    return headline(facts_with(folder, rows))[0].text.replace("\xa0", " ")


def test_the_first_sentence_names_the_worst_languages(tmp_path: Path) -> None:
    others = dict.fromkeys(("de", "en", "fr", "it"), (0, 25))
    said = untouched(tmp_path / "a", {"ko": (1, 25), "yo": (25, 25), **others})
    assert said == "Without any attack it answers 25 of 25 harmful prompts in Yoruba, 0 or 1 of 25 in the other 5."
    said = untouched(tmp_path / "b", {"yo": (500, 572), "th": (400, 570), **dict.fromkeys(others, (6, 572))})
    start = "Without any attack it answers 500 of 572 harmful prompts (87 %) in Yoruba and 400 of 570 (70 %) in Thai"
    assert said == f"{start}, 6 of 572 (1 %) in the other 4."
    said = untouched(tmp_path / "c", others)
    assert said.startswith(
        "Without any attack it answers none of the harmful prompts in any of 4 languages; rates of up to 13 %"
    )
    said = untouched(tmp_path / "e", {"de": (0, 25), "en": (5, 25)})
    assert said == "Without any attack it answers 5 of 25 harmful prompts in English, 0 of 25 in German."
    assert "each of 2 languages" in untouched(tmp_path / "d", {"de": (5, 25), "en": (5, 25)})


def test_the_judge_is_named_where_it_is_weak_or_unmeasured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"en": Reliability("native", "en", 0.9, 500, ""), "yo": Reliability("native", "yo", 0.24, 565, "")}
    figures["th"] = Reliability("native", "th", 0.82, 46, "")
    facts = Facts(read_inputs(make_run(tmp_path / "run", languages=("en", "yo", "th", "ru")).root))
    monkeypatch.setattr(Facts, "reliability", lambda _, language: figures.get(language))
    text = words_of(facts)
    assert "agrees well with reference labels in 1 of 4 languages" in text
    assert "weakly in Yoruba (κ = 0.24), on too few answers in Thai (n = 46)" in text
    assert "was never measured in Russian" in text


def test_every_reader_has_a_sentence(tmp_path: Path) -> None:
    said = dict(for_readers(Facts(read_inputs(make_run(tmp_path / "run").root))))
    assert said["Before a release"].startswith(
        "Look at Yoruba and Korean first; read answers in Yoruba (refusal-lens view)"
    )
    assert "refusal-lens gate decides against your limit" in said["Before a release"]
    assert "--sources all" in said["Research"]
    assert "13 of 14 languages" in said["Defence"] and "Yoruba is open without it" in said["Defence"]


def test_a_model_that_answers_everything_is_not_told_that_no_language_stands_out(tmp_path: Path) -> None:
    """Found as a new user: "Release. No language stands out." of a model that answers 4 of 4 in each of two languages."""
    facts = Facts(read_inputs(make_run(tmp_path / "run").root))
    (row,) = [row for row in facts.headline if row.name == "Yoruba"]
    facts.__dict__["headline"] = (replace(row, name="Hausa"), replace(row, name="Igbo"))
    assert dict(for_readers(facts))["Before a release"].startswith("It refuses little in any language")


def test_the_head_of_the_page_answers_five_questions_in_this_order(tmp_path: Path) -> None:
    facts = Facts(read_inputs(make_run(tmp_path / "run").root))
    assert [question for _, question, _ in answers(facts)] == [
        "Does it leak untouched?", "How sure is that?", "Is the judge to be trusted?", "Would one direction open the rest?",
    ]  # fmt: skip
    assert [said for _, _, part in answers(facts) for said in part] == headline(facts)


def test_what_so_many_prompts_leave_possible_is_said(tmp_path: Path) -> None:
    """Wilson's upper end for 0 of 25 is 13.3 %, for 1 of 25 19.5 %, for 0 of 572 0.7 %."""

    def sure(folder: str, counts: dict[str, tuple[int, int]]) -> list[str]:
        rows = [rate("baseline", "", code, "harmful", k, n) for code, (k, n) in counts.items()]
        parts = {about: said for about, _, said in answers(facts_with(tmp_path / folder, rows))}
        return [said.text.replace("\xa0", " ") for said in parts.get("sure", ())]

    few = sure("few", {"yo": (25, 25), "ko": (1, 25), "de": (0, 25), "en": (0, 25)})
    assert few == [
        "As few as 25 judged prompts a language leave rates of up to 20 % possible in the other 3: read the intervals, not the"
        " points."
    ]
    assert sure("one", {"en": (2, 572)}) == [
        "572 judged prompts a language leave rates of up to 1 % possible in English."
    ]
    assert sure("none", {"en": (0, 572)}) == [], "said beside the count: rates of up to 1 % could look the same"
    assert sure("all", {"en": (572, 572)}) == []


def test_headline_states_means_ranges_and_the_null(tmp_path: Path) -> None:
    rows = [
        rate("baseline", "", "en", "harmful", 0, 100),
        rate("baseline", "", "de", "harmful", 10, 100),
        rate("ablation", "en", "en", "harmful", 100, 100),
        rate("ablation", "en", "de", "harmful", 80, 100),
        rate("ablation", "random-0", "en", "harmful", 2, 100),
        rate("ablation", "random-0", "de", "harmful", 8, 100),
        rate("ablation", "random-1", "de", "harmful", 12, 100),
    ]
    text = words_of(facts_with(tmp_path, rows))
    assert "it answers 90 % of harmful prompts (mean; 80 % in German to 100 % in English), untouched" in text
    assert "untouched 5 % (mean; 0 % in English to 10 % in German)" in text
    assert "Random directions of the same size leave it at 6 %" in text
    assert "larger than chance" not in text, "without paired tests nothing is called so"


def test_a_language_without_headroom_is_named_and_the_missing_null_said(tmp_path: Path) -> None:
    rows = [
        rate("baseline", "", "en", "harmful", 10, 100),
        rate("baseline", "", "yo", "harmful", 88, 100),
        rate("ablation", "en", "en", "harmful", 95, 100),
        rate("ablation", "en", "yo", "harmful", 92, 100),
    ]
    text = words_of(facts_with(tmp_path, rows))
    assert "In Yoruba ablation has little left to remove: most harmful prompts are answered untouched" in text
    assert "No random direction was run, so there is no null" in text


def change_transfer(run: RunDir, **values: object) -> Facts:
    rows = [dict(row) for row in read_inputs(run.root).rows(TRANSFER)]
    for row in rows:
        if not str(row["source"]).startswith("random-"):
            row.update(values)
    write_rows(run, "transfer", rows)
    return Facts(read_inputs(run.root))


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"p_value": 0.001, "low": 0.6, "high": 0.8, "p_holm": 0.2}, 2),
        ({"p_value": 0.2, "low": 0.6, "high": 0.8}, 0),
        ({"p_value": 0.001, "low": -0.01, "high": 0.8}, 0),
        ({"p_value": 0.001, "low": 0.01, "high": 0.8}, 0),
    ],
)
def test_larger_than_chance_is_one_rule_for_headline_and_matrix(
    tmp_path: Path, values: dict[str, object], count: int
) -> None:
    """Null differences reach 0.05 here: an interval that starts at 0.01 lies beyond zero, and not beyond the nulls."""
    run = make_run(tmp_path / "run", languages=("en", "de"))
    for name in ("random-0", "random-1", "random-2"):
        rows = [dict(row) for row in read_inputs(run.root).rows(TRANSFER)]
        for row in rows:
            if row["source"] == name:
                row["difference"] = 0.05
        write_rows(run, "transfer", rows)
    facts = change_transfer(run, **values)
    said = "in all 2 languages" if count else "In none of the 2 languages"
    assert said in words_of(facts)
    figure = transfer_figure(facts, "ablation")
    assert figure is not None
    points = figure.spec["datasets"]["rows"]  # pyright: ignore[reportArgumentType, reportCallIssue, reportIndexIssue]
    assert sum(point["sure"] for point in points) == count  # pyright: ignore[reportArgumentType, reportCallIssue, reportGeneralTypeIssues, reportOptionalIterable]


def test_on_topic_share_reads_the_main_prompt_set_alone(tmp_path: Path) -> None:
    """90 of 100 on the main set, 10 of 200 on another: the headline's share is 90 %, not (90 + 10) / 300 = 33 %."""
    run = make_run(tmp_path / "run", languages=("en",))
    rows: list[dict[str, object]] = [
        {
            "intervention": "ablation",
            "source": "en",
            "language": "en",
            "prompts": "harmful",
            "complied": on_topic + hollow,
            "on_topic": on_topic,
            "hollow": hollow,
            "rate_on_topic": None,
            "prompt_set": name,
        }
        for name, on_topic, hollow in (("testbed", 90, 10), ("xstest", 10, 190))
    ]
    write_rows(run, "content", rows)
    assert "90 % keep to the topic asked" in words_of(Facts(read_inputs(run.root)))


def statuses(**found: str) -> dict[str, object]:
    return {"verdict": "universal", "languages": {code: {"status": status} for code, status in found.items()}}


def test_universal_says_how_many_languages_could_show_it(tmp_path: Path) -> None:
    """A language that is undefined, or that only its own direction was tried on, could not show a transfer."""
    found = statuses(en="own only", de="served", fr="served", yo="undefined")
    verdict = verdict_of(Facts(read_inputs(make_run(tmp_path / "run", verdict=found).root)))
    assert verdict == (
        "universal",
        "One direction carries refusal in all 2 languages that could show it, 4 tested.",
    )
    alone = statuses(en="own only", de="undefined", zh="served")
    verdict = verdict_of(Facts(read_inputs(make_run(tmp_path / "alone", verdict=alone).root)))
    assert verdict is not None and "the one language that could show it, 3 tested" in verdict[1]
    undefined = {**statuses(en="own only", de="served"), "verdict": "undefined"}
    verdict = verdict_of(Facts(read_inputs(make_run(tmp_path / "undefined", verdict=undefined).root)))
    assert verdict is not None and verdict[1].endswith(
        "either way: one language alone could show a transfer, 2 tested."
    )


def test_small_samples_and_broken_answers_are_cautioned(tmp_path: Path) -> None:
    rows = [
        rate("baseline", "", "en", "harmful", 1, 20),
        rate("ablation", "en", "en", "harmful", 15, 16, unscored=4),
        rate("baseline", "", "en", "harmless", 5, 20),
        rate("addition", "en", "en", "harmless", 2, 5, unscored=15),
    ]
    facts = facts_with(tmp_path, rows)
    text = words_of(facts)
    assert "As few as 20 judged prompts" in text
    assert "after ablation could not be judged in English" in text
    assert "75 % of these answers could not be judged" in text
    assert "It refuses 15 of 20 harmless prompts in English" in text
    assert {item.tone for item in headline(facts)} == {"plain", "caution"}


def test_null_rates_are_not_averaged_as_zero(tmp_path: Path) -> None:
    rows = [
        rate("baseline", "", "en", "harmful", 10, 100),
        rate("baseline", "", "th", "harmful", 0, 0, unscored=100),
        rate("ablation", "en", "en", "harmful", 90, 100),
        rate("ablation", "en", "th", "harmful", 0, 0, unscored=100),
    ]
    facts = facts_with(tmp_path, rows)
    assert facts.average("harmful_ablated") == pytest.approx(0.9)
    assert "could not be judged in Thai" in words_of(facts)


def test_no_valid_direction_is_explained_with_the_best_candidate(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", valid=False)
    facts = Facts(read_inputs(run.root))
    text = words_of(facts)
    assert facts.main_source is None
    assert "No valid refusal direction was found from English: every candidate was dropped. Nothing was ablated" in text
    assert "The best candidate it would have had: position" in text
    assert verdict_of(facts) == ("no valid direction", "No direction that carries refusal was found.")


def test_the_usual_source_leads_whatever_the_order(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("ar", "de", "en"), sources=("ar", "de", "en"))
    assert Facts(read_inputs(run.root)).main_source == "en"
    other = make_run(tmp_path / "other", languages=("ar", "de"), sources=("de", "ar"))
    assert Facts(read_inputs(other.root)).main_source == "de"


def test_headline_has_every_language_and_leaves_unknown_cells_empty(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random=0)
    rows = Facts(read_inputs(run.root)).headline
    assert sorted(row.language for row in rows) == sorted(LANGUAGES)
    assert all(row.harmful_random is None and row.harmless_random is None for row in rows)
    cell = {(row["intervention"], row["language"], row["prompts"]): row for row in read_inputs(run.root).rows(RATES)}
    first = rows[0]
    assert first.harmful_ablated is not None and first.harmless_added is not None
    assert first.harmful_ablated.k == cell["ablation", first.language, "harmful"]["k"]
    stored = cell["addition", first.language, "harmless"]
    assert first.harmless_added.k == int(str(stored["n"])) - int(str(stored["k"]))


def test_an_empty_run_says_so(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", header={})
    assert words_of(Facts(read_inputs(run.root))) == "This run has no results yet."


def with_separation(root: Path, rows: list[dict[str, object]], **leak: object) -> Facts:
    run = make_run(root, leave_out=("projection", "cosines"))
    write_rows(run, "separation", rows)
    (run.tables_dir / "geometry.json").write_text(json.dumps({"leak": {"n": len(rows), **leak}}))
    return Facts(read_inputs(run.root))


def separation(code: str, compliance: float, *, margin: float = 5.0, auc: float = 1.0) -> dict[str, object]:
    return {
        "layer": 3,
        "language": code,
        "auc": auc,
        "d_prime": 4.0,
        "margin": margin,
        "baseline_compliance": compliance,
    }


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.9, -0.2, "lie lower along"), (0.1, 0.9, "Against the paper"), (-0.5, 0.3, "No clear relation")],
)
def test_leak_words_are_as_strong_as_the_interval(tmp_path: Path, low: float, high: float, said: str) -> None:
    rows = [separation(code, index / 20, margin=5 - index) for index, code in enumerate(LANGUAGES)]
    facts = with_separation(tmp_path / "run", rows, rho=(low + high) / 2, low=low, high=high)
    assert said in leak_words(facts)


def test_separable_by_itself_and_below_the_shared_threshold_are_two_findings(tmp_path: Path) -> None:
    """Yoruba of the demo: AUC 1.00 by itself, margin -0.22; the chart shows the margin and the paragraph says so."""
    rows = [separation(code, 0.0) for code in LANGUAGES if code not in ("yo", "th", "ko")]
    rows += [separation("yo", 1.0, margin=-0.22), separation("th", 0.9, auc=0.55, margin=-1.0), separation("ko", 0.8)]
    text = leak_words(with_separation(tmp_path / "run", rows, rho=-0.5, low=-0.8, high=-0.1)).replace("\xa0", " ")
    yoruba, thai, korean = (
        next(part for part in text.split(": ") if name in part) for name in ("Yoruba", "Thai", "Korean")
    )
    assert "Yoruba, where 100 % of harmful prompts are answered untouched" in yoruba
    assert "told apart from harmless ones by themselves (AUC 1.00), but lie below the threshold" in text
    assert "hardly told apart from harmless ones (AUC 0.55), and lie below the threshold" in text
    assert "by themselves (AUC 1.00), and lie above the threshold" in text
    assert text.count("the action fails") == 1
    assert thai and korean


def test_no_rank_correlation_over_few_languages_or_ties(tmp_path: Path) -> None:
    few = [separation(code, index / 10, margin=5 - index) for index, code in enumerate(LANGUAGES[:5])]
    text = leak_words(with_separation(tmp_path / "few", few, rho=-1.0, low=-1.0, high=-0.9))
    assert "at least 6 are needed" in text and "\u03c1" not in text
    tied = [separation(code, 0.0, margin=5 - index) for index, code in enumerate(LANGUAGES)]
    tied[-1]["baseline_compliance"] = 1.0
    text = leak_words(with_separation(tmp_path / "tied", tied, rho=-0.6, low=-0.8, high=-0.2))
    assert "13 of 14 languages are tied" in text and "\u03c1" not in text


def test_the_judges_agreement_stands_beside_every_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kappa where it was measured, and by name the languages in which nothing may be decided by this judge."""
    from refusal_lens.languages import Reliability
    from refusal_lens.report import facts as arranged
    from refusal_lens.report.tables import judge_table

    known = {
        "en": Reliability("native", "en", 0.7, 300, "x"),
        "yo": Reliability("native", "yo", 0.2, 300, "x"),
        "ar": Reliability("native", "ar", 0.9, 46, "x"),
    }
    monkeypatch.setattr(arranged, "reliability", lambda judge, code: known.get(code) if "native" in judge else None)
    table = judge_table(
        facts_with(tmp_path, [rate("baseline", "", code, "harmful", 1, 9) for code in ("en", "yo", "th", "ar")])
    )
    assert table is not None and table.caption.endswith("those measured. Measured on x.")
    said = {row[0].text: [cell.text for cell in row[1:4]] for row in table.rows}
    assert said["English"] == ["yes", "0.70", "300"]
    assert said["Yoruba"] == ["no: too weak", "0.20", "300"]
    assert said["Arabic"][0] == "no: too few answers"
    assert said["Thai"][0] == "not measured"


def test_a_pool_is_named_by_the_language_it_leaves_out():
    """Was `pooled wItalianhout Italian`: the code stands in "without" too."""
    from refusal_lens.report.facts import source_name

    assert [source_name(f"pooled-without-{code}") for code in ("it", "th")] == [
        "pooled without Italian",
        "pooled without Thai",
    ]


def test_the_judges_error_is_said_with_the_rate_that_it_corrects_to():
    from refusal_lens.report.shares import Share

    share = Share(k=27, n=39, unscored=0, rate=27 / 39, low=0.54, high=0.81, corrected=(0.83, 0.71, 0.95))
    assert share.doubts.replace("\xa0", " ") == "with the judge's error 83 % [71, 95]"
    assert share.complement.corrected == pytest.approx((0.17, 0.05, 0.29))


def test_a_model_that_failed_its_checks_is_named_before_any_number(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", header={"checks": {"inexact": "padding"}})
    write_rows(run_tables(run), "rates", [rate("baseline", "", "en", "harmful", 1, 9)])
    first = headline(Facts(read_inputs(run.root)))[0]
    assert first.tone == "caution" and "the model failed its checks (padding)" in first.text


def run_tables(run: RunDir) -> RunDir:
    run.tables_dir.mkdir(exist_ok=True)
    return run
