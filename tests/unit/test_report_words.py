"""The headline's words follow the numbers: what is claimed, what is hedged, what is said to be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusal_lens.report import Facts, headline, headline_table, read_inputs, verdict_of
from refusal_lens.report.words import leak_words
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
    assert "the model answers 90 % of harmful prompts (80 % to 100 % over 2 languages)" in text
    assert "untouched it answers 5 % (0 % to 10 % over 2 languages)" in text
    assert "Random directions of the same size leave it at 6 %" in text
    assert "larger than chance in all 2 languages" in text


def test_overlapping_intervals_are_not_called_a_rise(tmp_path: Path) -> None:
    rows = [
        rate("baseline", "", "en", "harmful", 10, 100),
        rate("baseline", "", "yo", "harmful", 88, 100),
        rate("ablation", "en", "en", "harmful", 95, 100),
        rate("ablation", "en", "yo", "harmful", 92, 100),
    ]
    text = words_of(facts_with(tmp_path, rows))
    assert "larger than chance in 1 of 2 languages (not seen in Yoruba)" in text
    assert "In Yoruba the untouched model already answers most harmful prompts" in text
    assert "No random direction was run, so there is no null" in text


def test_holm_decides_where_the_transfer_table_is_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en", "de"))
    rows = [dict(row) for row in read_inputs(run.root).rows("transfer")]
    for row in rows:
        row["p_holm"] = 0.2
    write_rows(run, "transfer", rows)
    assert "In none of the 2 languages is the rise larger than chance" in words_of(Facts(read_inputs(run.root)))


def test_small_samples_and_broken_answers_are_cautioned(tmp_path: Path) -> None:
    rows = [
        rate("baseline", "", "en", "harmful", 1, 20),
        rate("ablation", "en", "en", "harmful", 15, 16, unscored=4),
        rate("baseline", "", "en", "harmless", 15, 20),
        rate("addition", "en", "en", "harmless", 2, 5, unscored=15),
    ]
    facts = facts_with(tmp_path, rows)
    text = words_of(facts)
    assert "As few as 20 judged prompts" in text
    assert "after ablation could not be judged in English" in text
    assert "75 % of these answers could not be judged" in text
    assert "also refuses 25 % of harmless prompts" in text
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


def test_headline_table_has_every_language_and_leaves_unknown_cells_empty(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random=0)
    rows = headline_table(run.root)
    assert sorted(row.language for row in rows) == sorted(LANGUAGES)
    assert all(row.harmful_random is None and row.harmless_random is None for row in rows)
    cell = {(row["intervention"], row["language"], row["prompts"]): row for row in read_inputs(run.root).rows("rates")}
    first = rows[0]
    assert first.harmful_ablated is not None and first.harmless_added is not None
    assert first.harmful_ablated.k == cell["ablation", first.language, "harmful"]["k"]
    stored = cell["addition", first.language, "harmless"]
    assert first.harmless_added.k == int(str(stored["n"])) - int(str(stored["k"]))


def test_an_empty_run_says_so(tmp_path: Path) -> None:
    from refusal_lens.rundir import RunDir

    run = RunDir.create(tmp_path / "run", header={})
    assert words_of(Facts(read_inputs(run.root))) == "This run has no results yet."


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.9, -0.2, "lie closer together answer more"),
        (0.1, 0.9, "Against the paper"),
        (-0.5, 0.3, "No clear relation"),
    ],
)
def test_leak_words_are_as_strong_as_the_interval(tmp_path: Path, low: float, high: float, said: str) -> None:
    import json

    run = make_run(tmp_path / "run", languages=("en",), leave_out=("projection", "cosines"))
    (run.tables_dir / "geometry.json").write_text(
        json.dumps({"leak": {"rho": (low + high) / 2, "low": low, "high": high}})
    )
    assert said in leak_words(Facts(read_inputs(run.root)))
