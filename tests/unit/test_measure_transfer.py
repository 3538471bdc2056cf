from __future__ import annotations

import pytest
from measure_fakes import cell, verdicts_of

from refusal_lens.core.interventions import DECLARED, Declared
from refusal_lens.measure import (
    CONTRACT,
    content_rows,
    on_topic_by_overlap,
    raised,
    rate_rows,
    selectivity_rows,
    transfer_rows,
)


def test_rows_are_paired_by_prompt_and_add_up() -> None:
    records = [
        *cell("baseline", "", "en", {"a": 0, "b": 0, "c": 1, "d": None, "e": 0}),
        *cell("ablation", "de", "en", {"e": 1, "d": 1, "c": 0, "b": 1, "a": None}),
    ]
    (row,) = transfer_rows(records)
    assert list(row)[: len(CONTRACT)] == list(CONTRACT)
    assert (row["source"], row["target"], row["n"], row["gained"], row["lost"], row["unpaired"]) == (
        "de",
        "en",
        3,
        2,
        1,
        2,
    )
    assert row["baseline_rate"] == pytest.approx(1 / 3) and row["rate"] == pytest.approx(2 / 3)
    assert row["difference"] == pytest.approx(1 / 3) and row["p_value"] == 1.0


def test_ablation_is_read_on_harmful_and_addition_on_harmless() -> None:
    records = [
        *cell("baseline", "", "en", {"a": 0}),
        *cell("baseline", "", "en", {"x": 1}, prompts="harmless"),
        *cell("ablation", "en", "en", {"a": 1}),
        *cell("ablation", "en", "en", {"x": 1}, prompts="harmless"),
        *cell("addition", "en", "en", {"x": 0}, prompts="harmless"),
        *cell("addition", "en", "en", {"a": 0}),
    ]
    rows = transfer_rows(records)
    assert [(row["intervention"], row["difference"]) for row in rows] == [("ablation", 1.0), ("addition", -1.0)]


def test_holm_runs_over_the_targets_of_one_source_and_nothing_else() -> None:
    flips = {f"p{index:02d}": 0 for index in range(13)}
    ones = dict.fromkeys(flips, 1)
    plain = [*cell("baseline", "", "en", flips), *cell("ablation", "en", "en", ones)]
    plain += [*cell("baseline", "", "de", flips), *cell("ablation", "en", "de", ones)]
    more = [
        *plain,
        *cell("ablation", "random-0", "en", flips),
        *cell("ablation", "shuffled", "de", flips),
        *cell("ablation", "pooled", "en", ones),
        *cell("ablation", "ko", "en", flips),
        *cell("baseline", "", "en", ones, prompts="harmless"),
        *cell("addition", "en", "en", flips, prompts="harmless"),
        *cell("ablation", "en", "en", flips, prompt_set="xstest"),
    ]
    small, large = transfer_rows(plain), transfer_rows(more)
    assert [row["p_holm"] for row in small] == pytest.approx([2 * 2 / 2**13] * 2)  # 13 of 13 flips, two targets
    asked = [row for row in large if (row["source"], row["intervention"]) == ("en", "ablation")]
    assert [row["p_holm"] for row in asked] == [row["p_holm"] for row in small]
    assert all(row["p_holm"] is None for row in large if row["source"] in ("random-0", "shuffled", "pooled"))
    assert [row["mde"] for row in asked] == [row["mde"] for row in small]


def test_prompts_that_only_the_baseline_could_not_score_are_no_loss() -> None:
    before = {f"p{index:03d}": 0 if index < 45 else None for index in range(100)}
    records = [*cell("baseline", "", "en", before), *cell("ablation", "de", "en", dict.fromkeys(before, 1))]
    (row,) = transfer_rows(records)
    assert (row["n"], row["unpaired"], row["lost_unscored"]) == (45, 55, 0)
    swapped = [*cell("baseline", "", "en", dict.fromkeys(before, 0)), *cell("ablation", "de", "en", before)]
    (row,) = transfer_rows(swapped)
    assert (row["n"], row["unpaired"], row["lost_unscored"]) == (45, 55, 55)


def test_one_rule_says_what_is_larger_than_chance() -> None:
    flips = {f"p{index:02d}": 0 for index in range(40)}
    records = [*cell("baseline", "", "en", flips), *cell("ablation", "de", "en", dict.fromkeys(flips, 1))]
    assert [raised(row) for row in transfer_rows(records)] == [None]  # no null: it cannot be told
    few = flips | dict.fromkeys(list(flips)[:20], 1)
    records += [*cell("ablation", "ko", "en", few), *cell("ablation", "random-0", "en", few)]
    rows = {row["source"]: row for row in transfer_rows(records)}
    assert {row["null_difference"] for row in rows.values()} == {0.5}
    assert [raised(rows[name]) for name in ("de", "ko", "random-0")] == [True, False, False]
    old = {name: {**row, "null_difference": None} for name, row in rows.items()}  # a table of an older version
    assert [raised(old[name], old.values()) for name in ("de", "ko")] == [True, False]


def test_adding_raises_refusal_where_compliance_falls_below_every_null() -> None:
    ones = dict.fromkeys([f"p{index:02d}" for index in range(40)], 1)
    records = [*cell("baseline", "", "en", ones, prompts="harmless")]
    records += cell("addition", "de", "en", dict.fromkeys(ones, 0), prompts="harmless")
    records += cell("addition", "random-0", "en", ones | dict.fromkeys(list(ones)[:10], 0), prompts="harmless")
    rows = {row["source"]: row for row in transfer_rows(records)}
    assert rows["de"]["null_difference"] == -0.25 and raised(rows["de"]) and not raised(rows["random-0"])


def test_the_class_of_prompts_decides_what_a_rise_is_not_the_interventions_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DECLARED, "gated", Declared(name="gated", reads_on="harmless", done="gated", colour="#000000"))
    ones = dict.fromkeys([f"p{index:02d}" for index in range(40)], 1)
    records = [*cell("baseline", "", "en", ones, prompts="harmless")]
    records += cell("gated", "de", "en", dict.fromkeys(ones, 0), prompts="harmless")
    records += cell("gated", "random-0", "en", ones | dict.fromkeys(list(ones)[:10], 0), prompts="harmless")
    rows = {row["source"]: row for row in transfer_rows(records)}
    assert rows["de"]["null_difference"] == -0.25 and raised(rows["de"]) and not raised(rows["random-0"])


def test_two_labels_of_one_prompt_in_one_cell_are_refused() -> None:
    records = [*cell("baseline", "", "en", {"a": 0}), *cell("baseline", "", "en", {"a": 1})]
    with pytest.raises(ValueError, match="prompt a is both refused and complied"):
        transfer_rows(records)


def test_everything_unscored_is_null_not_zero() -> None:
    records = [*cell("baseline", "", "en", {"a": 0}), *cell("ablation", "en", "en", {"a": None})]
    (row,) = transfer_rows(records)
    assert (
        row["difference"] is None and row["p_holm"] is None and row["n"] == 0 and (row["low"], row["high"]) == (-1, 1)
    )


def test_same_seed_same_table() -> None:
    records = verdicts_of({"en": {"en": 0.9, "de": 0.4}}, n=40)
    assert transfer_rows(records, seed=4) == transfer_rows(records, seed=4)


def test_permuting_languages_permutes_the_table() -> None:
    effects = {"en": {"en": 0.9, "de": 0.4, "yo": 0.1}}
    rows = transfer_rows(verdicts_of(effects, n=30))
    swap = {"en": "yo", "yo": "en", "de": "de"}
    renamed = [{**record, "language": swap[str(record["language"])]} for record in verdicts_of(effects, n=30)]
    by_target = {(row["source"], row["target"]): row for row in transfer_rows(renamed)}
    assert len(by_target) == len(rows)
    for row in rows:
        assert by_target[row["source"], swap[str(row["target"])]] == {**row, "target": swap[str(row["target"])]}


def test_content_splits_complied_answers() -> None:
    records = cell("ablation", "en", "de", {"a": 1, "b": 1, "c": 1, "d": 0, "e": None})
    topics = {"a": True, "b": False, "c": True}
    records = [
        {**record, "on_topic": topics.get(str(record["prompt_id"])), "off_language": record["prompt_id"] == "c"}
        for record in records
    ]
    (row,) = content_rows(records)
    assert (row["complied"], row["on_topic"], row["hollow"]) == (3, 1, 2)
    assert row["rate_on_topic"] == pytest.approx(1 / 4) and row["share_on_topic"] == pytest.approx(1 / 3)


def test_content_without_known_topics_claims_nothing() -> None:
    (row,) = content_rows(cell("ablation", "en", "de", {"a": 1, "b": 1}))
    assert (row["complied"], row["on_topic"], row["hollow"], row["rate_on_topic"]) == (2, 0, 0, None)


def test_overlap_tells_topics_apart_without_words() -> None:
    things = ["bicycle lock", "kitchen knife", "garden fence", "paper plane", "apple cake", "wooden chair"]
    things += ["自転車の鍵", "台所の包丁", "กุญแจจักรยาน", "紙飛行機の作り方", "Zaunlatte"]
    prompts = [f"tell me about the {thing}" for thing in things]
    good = [f"the {thing} is this: first take the {thing}" for thing in things]
    wrong = [*good[1:], good[0]]
    own, other = on_topic_by_overlap(prompts, good), on_topic_by_overlap(prompts, wrong)
    assert own is not None and other is not None
    assert own.all() and not other.any()
    assert on_topic_by_overlap(prompts[:3], good[:3]) is None
    cut = [prompt[: len(prompt) * 2 // 3] for prompt in prompts]
    babble = [f'"{prompt.upper()}?" {prompt} This' for prompt in prompts]
    for empty in (prompts, cut, babble):  # a small model that repeats the prompt was said to keep to the topic
        found = on_topic_by_overlap(prompts, empty)
        assert found is not None and not found.any()
    answered = [f"{prompt}: {answer}, step by step" for prompt, answer in zip(prompts, good, strict=True)]
    after = on_topic_by_overlap(prompts, answered)
    assert after is not None and after.all()


def test_one_prompt_under_many_directions_is_one_prompt_and_its_answers_are_not_hollow() -> None:
    things = ["bicycle lock", "kitchen knife", "garden fence", "paper plane", "apple cake", "wooden chair"]
    things += ["snow shovel", "copper kettle", "tennis racket", "church organ", "fishing boat", "silver spoon"]
    prompts = [f"tell me about the {thing}" for thing in things]
    good = [f"the {thing} is this: first take the {thing}" for thing in things]
    found = on_topic_by_overlap(prompts * 4, good * 4)  # four directions answered every prompt
    once = on_topic_by_overlap(prompts, good)
    assert found is not None and once is not None and once.all()
    assert found.tolist() == once.tolist() * 4
    assert on_topic_by_overlap(prompts[:5] * 4, good[:5] * 4) is None  # five prompts are five, not twenty
    few = on_topic_by_overlap(prompts[:5] * 4, good[:5] * 4, among=prompts)
    assert few is not None and few.all()


def test_selectivity_is_refusals_on_harmful_minus_on_harmless() -> None:
    records = [
        *cell("baseline", "", "en", {"a": 0, "b": 0, "c": 0, "d": 1}),
        *cell("baseline", "", "en", {"x": 1, "y": 1, "z": 0, "w": 1}, prompts="harmless"),
        *cell("baseline", "", "de", {"a": 0}),
    ]
    (row,) = selectivity_rows(rate_rows(records))
    assert (
        row["language"] == "en"
        and row["selectivity"] == pytest.approx(0.5)
        and row["overrefusal"] == pytest.approx(0.25)
    )
