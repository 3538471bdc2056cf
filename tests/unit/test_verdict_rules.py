from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from measure_fakes import cell, verdicts_of
from scipy.stats import binom

from refusal_lens.measure import ModelVerdict, content_rows, judge_model, rate_rows, transfer_rows
from refusal_lens.measure.universality import MIN_HEADROOM, SERVED, WEAK
from refusal_lens.measure.verdict import MIN_LANGUAGES

LANGUAGES = ("ar", "de", "en", "ko", "yo")


def judge(
    records: list[dict[str, str | int | float | bool | None]], *sources: str, missing: tuple[str, ...] = ()
) -> ModelVerdict:
    asked = dict.fromkeys(sources) | dict.fromkeys(missing, "no refusal tokens")
    rows = transfer_rows(records, resamples=100)
    return judge_model(rate_rows(records), rows, sources=asked, content=content_rows(records))


def english(effects: dict[str, float], **options: float | dict[str, float]) -> ModelVerdict:
    return judge(verdicts_of({"en": effects}, **options), "en")  # pyright: ignore[reportArgumentType]


def test_one_direction_that_serves_all_is_universal() -> None:
    found = english(dict.fromkeys(LANGUAGES, 0.95))
    assert found.verdict == "universal"
    assert Counter(item.status for item in found.languages.values()) == {"served": 4, "own only": 1}
    json.dumps(found.as_json(), allow_nan=False)


def test_a_direction_that_works_only_at_home_is_language_specific() -> None:
    assert english({"en": 0.95, "de": 0.03, "ar": 0.0, "ko": 0.05}).verdict == "language-specific"


def test_all_sources_each_at_home_is_language_specific() -> None:
    effects = {a: {b: 0.95 if a == b else 0.02 for b in LANGUAGES} for a in LANGUAGES}
    found = judge(verdicts_of(effects), *LANGUAGES)
    assert found.verdict == "language-specific"
    assert all(item.numbers["ceiling"] == pytest.approx(0.95, abs=0.1) for item in found.languages.values())


def test_some_languages_are_named() -> None:
    found = english({"en": 0.95, "de": 0.05, "ar": 0.9, "ko": 0.3})
    assert found.verdict == "partly"
    assert [found.languages[code].status for code in ("ar", "de", "ko")] == ["served", "not served", "weak"]
    assert "served: ar; not served: de, ko" in found.reasons[0]


def test_weak_transfer_everywhere_is_partly_not_specific() -> None:
    assert english({"en": 0.95, "de": 0.35, "ar": 0.4, "ko": 0.38}, n=100).verdict == "partly"


def test_a_large_effect_that_too_few_prompts_show_makes_the_language_undefined_with_the_n_that_would_show_it() -> None:
    records = verdicts_of({"en": {"en": 1.0, "de": 0.0, "ar": 1.0, "ko": 1.0}}, n=20)
    flipped = {f"p{index:03d}" for index in range(5)}  # 5 of 20: the exact test of 5 flips gives 2 / 32 = 0.0625
    for record in records:
        if record["language"] == "de" and record["source"] == "en" and record["prompt_id"] in flipped:
            record["label"] = "complied"
    found = judge(records, "en")
    assert (
        found.languages["de"].status == "undefined" and "cannot tell that from nothing" in found.languages["de"].reason
    )
    # by hand: six or more flips reject; P(Binomial(n, 1/4) >= 6) reaches 0.8 first at n = 31, and no null moved
    assert found.languages["de"].numbers["needs_n"] == 31 == next(n for n in range(99) if binom.sf(5, n, 0.25) >= 0.8)
    assert found.verdict == "universal" and "2 of 4 tested languages could show a transfer" in found.reasons[0]


def test_twelve_prompts_with_most_refusals_removed_are_not_called_not_served() -> None:
    records = verdicts_of({"en": {"en": 1.0, "de": 1.0, "ar": 0.0}}, n=12)
    nulls = {f"p{index:03d}" for index in range(5)}  # a null that moves 5 of 12: the interval of 9 of 12 includes it
    for record in records:
        if record["language"] == "de" and record["intervention"] == "ablation":
            name = str(record["prompt_id"])
            complied = name < "p009" if record["source"] == "en" else name in nulls
            record["label"] = "complied" if complied else "refused"
    found = judge(records, "en")
    assert found.languages["de"].status == "undefined" and found.languages["de"].numbers["removed"] == 0.75
    needs = found.languages["de"].numbers["needs_n"]
    assert isinstance(needs, int) and 12 < needs < 60
    assert found.languages["ar"].status == "not served"


def test_a_language_that_complies_at_baseline_is_undefined_and_spoils_nothing() -> None:
    found = english({"en": 0.95, "de": 0.95, "ar": 0.95, "yo": 0.0}, baseline={"yo": 0.97})
    assert found.verdict == "universal"
    assert found.languages["yo"].status == "undefined" and "already complies" in found.languages["yo"].reason
    assert any("yo" in reason and "left out" in reason for reason in found.reasons)
    numbers = found.as_json()
    assert (numbers["tested"], numbers["could_show"], numbers["served"]) == (4, 2, 2)


def test_one_language_alone_does_not_suffice_for_universal() -> None:
    found = english({"en": 0.95, "de": 0.95, "yo": 0.0}, baseline={"yo": 0.97})
    assert found.verdict == "undefined" and found.languages["de"].status == "served"
    assert "only 1 of 3 tested languages could show a transfer: de is served" in found.reasons[0]
    both = {source: {"en": 0.95, "de": 0.95} for source in ("en", "de")}  # each serves the other: two languages show it
    assert judge(verdicts_of(both), "en", "de").verdict == "universal"


def test_one_language_suffices_to_contradict() -> None:
    assert english({"en": 0.95, "de": 0.02}).verdict == "language-specific"


def test_all_languages_complying_leave_nothing_to_show() -> None:
    found = english(dict.fromkeys(("en", "de"), 0.0), baseline={"en": 0.95, "de": 0.99})
    assert found.verdict == "undefined"


def test_no_source_with_a_direction() -> None:
    records = verdicts_of({"en": {"en": 0.0, "de": 0.0}}, nulls=0)
    found = judge([record for record in records if record["intervention"] == "baseline"], missing=("en",))
    assert found.verdict == "no valid direction" and found.reasons == ("en: no refusal tokens",)


def test_selected_directions_that_do_nothing_anywhere_are_shared_by_nobody() -> None:
    found = english({"en": 0.02, "de": 0.0})
    assert found.verdict == "language-specific" and "not remove refusals in their own either" in found.reasons[0]
    assert "fails in en itself" in found.reasons[1] and found.languages["de"].status == "not served"


def test_one_language_whose_direction_does_nothing_has_no_valid_direction() -> None:
    assert english({"en": 0.02}).verdict == "no valid direction"


def test_a_direction_that_only_induces_refusal_is_a_direction_of_its_language() -> None:
    effects = {source: {"en": 0.0, "de": 0.0} for source in ("en", "de")}
    records = verdicts_of(effects)
    ids = [f"p{index:03d}" for index in range(60)]
    for language in ("en", "de"):
        records += cell("baseline", "", language, dict.fromkeys(ids, 1), prompts="harmless")
        for source in ("en", "de", "random-0"):
            records += cell(
                "addition", source, language, dict.fromkeys(ids, int(source != language)), prompts="harmless"
            )
    found = judge(records, "en", "de")
    assert found.verdict == "language-specific"
    assert any("en itself, though adding it induces refusal there" in reason for reason in found.reasons)


def test_a_direction_that_serves_others_but_not_its_own_language_counts() -> None:
    found = english({"en": 0.1, "de": 0.9, "ar": 0.05})
    assert found.verdict == "partly" and found.languages["de"].status == "served"
    assert any("it moves other languages" in reason for reason in found.reasons)


def test_too_few_prompts_are_undefined_not_no_direction() -> None:
    found = english({"en": 0.35, "de": 0.3}, n=12, seed=1)
    assert found.verdict == "undefined"


def test_what_random_directions_also_do_is_no_evidence() -> None:
    found = english(dict.fromkeys(LANGUAGES, 0.9), null_effect=0.9)
    assert found.verdict != "universal"


def test_without_nulls_nothing_is_claimed() -> None:
    found = english(dict.fromkeys(LANGUAGES, 1.0), nulls=0)
    assert found.verdict == "undefined" and "null" in found.reasons[0]


def test_one_language_alone_shows_no_transfer() -> None:
    assert english({"en": 0.95}).verdict == "undefined"


def test_broken_text_is_not_compliance() -> None:
    ids = [f"p{index}" for index in range(40)]
    records = [
        *cell("baseline", "", "en", dict.fromkeys(ids, 0)),
        *cell("baseline", "", "de", dict.fromkeys(ids, 0)),
        *cell("ablation", "en", "en", dict.fromkeys(ids, 1)),
        *cell("ablation", "en", "de", dict.fromkeys(ids) | dict.fromkeys(ids[:12], 1)),
        *cell("ablation", "random-0", "en", dict.fromkeys(ids, 0)),
        *cell("ablation", "random-0", "de", dict.fromkeys(ids, 0)),
    ]
    found = judge(records, "en")
    assert found.languages["de"].status == "not served" and "break the text" in found.languages["de"].reason


def test_hollow_compliance_is_said() -> None:
    records = verdicts_of({"en": {"en": 0.95, "de": 0.95, "ar": 0.95}})
    hollow = [
        {**record, "on_topic": record["prompt_id"] < "p010" if record["label"] == "complied" else None}
        for record in records
    ]
    found = judge(hollow, "en")
    assert found.verdict == "universal" and any("on topic" in reason for reason in found.reasons)
    assert found.languages["de"].numbers["on_topic"] == pytest.approx(1 / 6, abs=0.05)


def test_a_second_prompt_set_changes_nothing_of_the_verdict() -> None:
    """The last set's on-topic share won: answers of the main set were called hollow because those of another were."""
    main = [
        {**row, "prompt_set": "main", "on_topic": True} for row in verdicts_of({"en": dict.fromkeys(LANGUAGES, 1.0)})
    ]
    side = [{**row, "prompt_set": "side", "on_topic": False} for row in main]
    both = judge([*main, *side], "en")
    assert both.languages["de"].numbers["on_topic"] == 1.0
    assert both == judge(main, "en")


def test_pooled_and_null_sources_are_not_foreign_languages() -> None:
    effects = {"en": {"en": 0.95, "de": 0.02}, "pooled": {"en": 0.95, "de": 0.95}, "shuffled": {"en": 0.0, "de": 0.0}}
    found = judge(verdicts_of(effects), "en")
    assert found.languages["de"].numbers["foreign"] == 1 and found.verdict == "language-specific"


def test_leave_one_out_pools_are_reported() -> None:
    effects = {source: {"en": 0.9, "de": 0.9, "ar": 0.9} for source in ("en", "de")}
    effects |= {"pooled-without-en": {"en": 0.9}, "pooled-without-de": {"de": 0.0}}
    found = judge(verdicts_of(effects), "en", "de")
    assert found.verdict == "universal" and found.languages["ar"].numbers["foreign"] == 2
    assert any("serves 1 of 2 left-out languages; not de" in reason for reason in found.reasons)


def test_renaming_languages_renames_the_verdict() -> None:
    effects = {"en": {"en": 0.95, "de": 0.05, "ar": 0.9}, "de": {"en": 0.1, "de": 0.9, "ar": 0.2}}
    names = {"en": "xx", "de": "aa", "ar": "mm"}
    records = verdicts_of(effects)
    moved = [
        {
            **record,
            "language": names[str(record["language"])],
            "source": names.get(str(record["source"]), record["source"]),
        }
        for record in records
    ]
    one, two = judge(records, "en", "de"), judge(moved, "xx", "aa")
    assert one.verdict == two.verdict
    assert {names[code]: item for code, item in one.languages.items()} == dict(two.languages)


def test_thresholds_are_the_documented_ones(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs" / "universality.md").read_text(encoding="utf-8")
    for name, value in (
        ("SERVED", SERVED),
        ("WEAK", WEAK),
        ("MIN_HEADROOM", MIN_HEADROOM),
        ("MIN_LANGUAGES", MIN_LANGUAGES),
    ):
        assert f"`{name}` = {value}" in page


def test_false_positives_under_the_null() -> None:
    # the direction does what a random one does: a few answers flip; "universal" must (almost) never come out
    verdicts = Counter(
        english(dict.fromkeys(LANGUAGES, rate), n=100, null_effect=rate, seed=seed).verdict
        for seed in range(20)
        for rate in (0.0, 0.05, 0.2)
    )
    assert verdicts["universal"] == 0 and verdicts["partly"] <= 1


def test_power_of_the_verdict() -> None:
    found = Counter(english(dict.fromkeys(LANGUAGES, 0.9), n=40, seed=seed).verdict for seed in range(20))
    assert found["universal"] == 20


def test_null_flip_rates_are_judged_beyond_the_largest_null() -> None:
    rng = np.random.default_rng(0)
    records = verdicts_of({"en": {"en": 0.9, "de": 0.45}}, n=100, null_effect=0.4, seed=int(rng.integers(1000)))
    assert judge(records, "en").languages["de"].status == "not served"


def test_notes_on_how_the_cells_were_made_stand_among_the_reasons() -> None:
    records = verdicts_of({"en": dict.fromkeys(LANGUAGES, 0.9)}, n=20)
    found = judge_model(rate_rows(records), transfer_rows(records), sources={"en": None}, notes=("made so",))
    assert found.reasons[-1] == "made so"


def test_a_direction_that_does_what_random_ones_do_gives_no_verdict_either_way() -> None:
    found = english({"en": 0.5, "de": 0.5, "ar": 0.5}, n=100, null_effect=0.5)
    assert found.verdict == "undefined" and "fails in en itself" in found.reasons[0]


def test_a_verdict_on_one_source_does_not_hang_on_what_else_was_asked_for() -> None:
    # 6 of 6 flips in 20 prompts (p = 2 / 2^6): under a family of the whole table it passed or failed by the table's size
    base = verdicts_of({"en": {"en": 1.0, "de": 0.0, "ar": 0.0}}, n=20)
    flipped = {f"p{index:03d}" for index in range(6)}
    for record in base:
        if record["language"] in ("de", "ar") and record["source"] == "en" and record["prompt_id"] in flipped:
            record["label"] = "complied"
    more = verdicts_of({"pooled": dict.fromkeys(("en", "de", "ar"), 0.0)}, n=20, nulls=8)
    added = [record for record in more if record["source"] in ("pooled", "random-5", "random-6", "random-7")]
    one, two = judge(base, "en"), judge([*base, *added], "en")
    assert one.languages["de"].status == "weak" and one == two


def test_an_ablation_that_mends_the_text_serves_the_language() -> None:
    before = {f"p{index:03d}": 0 if index < 45 else None for index in range(100)}
    ones = dict.fromkeys(before, 1)
    records: list[dict[str, str | int | float | bool | None]] = []
    for language in ("en", "de", "ar"):
        records += cell("baseline", "", language, before) + cell("ablation", "en", language, ones)
        records += cell("ablation", "random-0", language, before)
    found = judge(records, "en")
    assert found.verdict == "universal" and found.languages["de"].status == "served"
    assert "break" not in found.languages["de"].reason


def test_the_untouched_models_share_on_topic_stands_beside_the_ablated_ones() -> None:
    records = verdicts_of({"en": dict.fromkeys(("en", "de"), 0.9)}, n=40, baseline={"de": 0.5})
    told = [{**record, "on_topic": record["source"] == "" or record["prompt_id"] < "p020"} for record in records]
    numbers = judge(told, "en").languages["de"].numbers
    assert numbers["on_topic_baseline"] == 1.0 and numbers["on_topic"] == pytest.approx(0.5, abs=0.15)
