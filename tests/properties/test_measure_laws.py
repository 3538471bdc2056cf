"""Laws of the tables: what may change when something more is asked for, and what must not.

Whatever else a run asks for (a source, a null, a pool, a prompt set, another language, prompts that the baseline could not
score), the rows that were there stay as they were, but for the columns that docs/statistics.md names.
"""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refusal_lens.core.tables import TransferRow
from refusal_lens.measure import ModelVerdict, content_rows, judge_model, raised, rate_rows, transfer_rows

Row = dict[str, str | bool | None]
LABELS = ("refused", "complied", "unscored")
IDS = tuple(f"p{index:02d}" for index in range(14))
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def cells(
    draw: st.DrawFn, source: str, language: str, *, intervention: str = "ablation", prompt_set: str = "main"
) -> list[Row]:
    labels = draw(st.lists(st.sampled_from(LABELS), min_size=len(IDS), max_size=len(IDS)))
    harm = "harmless" if intervention == "addition" else "harmful"
    base: Row = {"intervention": intervention, "source": source, "language": language, "prompts": harm}
    return [
        {**base, "prompt_set": prompt_set, "prompt_id": name, "label": label, "on_topic": True, "off_language": False}
        for name, label in zip(IDS, labels, strict=True)
    ]


@st.composite
def audits(draw: st.DrawFn) -> list[Row]:
    """Two sources and a null on two languages."""
    rows: list[Row] = []
    for language in ("de", "en"):
        rows += cells(draw, "", language, intervention="baseline")
        for source in ("de", "en", "random-0"):
            rows += cells(draw, source, language)
    return rows


@st.composite
def more(draw: st.DrawFn, source: str = "ko", intervention: str = "ablation", prompt_set: str = "main") -> list[Row]:
    """One more direction on the same two languages."""
    named = {"intervention": intervention, "prompt_set": prompt_set}
    return [row for language in ("de", "en") for row in cells(draw, source, language, **named)]


@st.composite
def another_language(draw: st.DrawFn) -> list[Row]:
    rows = cells(draw, "", "yo", intervention="baseline")
    return rows + [row for source in ("de", "en", "random-0") for row in cells(draw, source, "yo")]


Key = tuple[str, str, str]


def table(rows: list[Row]) -> dict[Key, TransferRow]:
    made = transfer_rows(rows, resamples=20)
    return {(row["source"], row["target"], row["intervention"]): row for row in made}


def without(row: Mapping[str, object], *columns: str) -> dict[str, object]:
    return {name: value for name, value in row.items() if name not in columns}


def judged(rows: list[Row]) -> ModelVerdict:
    main = [row for row in rows if row["prompt_set"] == "main"]
    made = transfer_rows(rows, resamples=20, prompt_set="main")
    return judge_model(rate_rows(main), made, sources={"de": None, "en": None}, content=content_rows(main))


@few
@given(audits(), more("ko"), more("pooled"), more("ko", "addition"))
def test_a_source_a_pool_or_an_addition_changes_no_row_that_was_there(
    rows: list[Row], source: list[Row], pool: list[Row], addition: list[Row]
) -> None:
    before = table(rows)
    for added in (source, pool, addition):
        after = table([*added, *rows])
        assert {key: after[key] for key in before} == before
    assert rate_rows([*rows, *source])[: len(rate_rows(rows))] == rate_rows(rows)
    assert content_rows([*rows, *pool])[: len(content_rows(rows))] == content_rows(rows)


@few
@given(audits(), more("random-1"))
def test_a_null_changes_nothing_but_what_must_be_exceeded(rows: list[Row], null: list[Row]) -> None:
    before, after = table(rows), table([*rows, *null])
    for key, row in before.items():
        assert without(after[key], "null_difference") == without(row, "null_difference")
        now, then = after[key]["null_difference"], row["null_difference"]
        assert then is None or (now is not None and now >= then)


@few
@given(audits(), more("en", prompt_set="xstest"))
def test_a_prompt_set_changes_neither_transfer_nor_verdict(rows: list[Row], other: list[Row]) -> None:
    assert table([*rows, *other]) == table(rows)
    assert judged([*rows, *other]) == judged(rows)


@few
@given(audits(), another_language())
def test_another_language_changes_the_family_and_no_status(rows: list[Row], language: list[Row]) -> None:
    before, after = table(rows), table([*language, *rows])
    for key, row in before.items():
        assert without(after[key], "p_holm", "mde") == without(row, "p_holm", "mde")
        small, large = row["p_holm"], after[key]["p_holm"]
        assert (small is None and large is None) or (small is not None and large is not None and large >= small)
        assert raised(after[key]) == raised(row)
    effects = [row for row in rows if row["source"] in ("", "random-0") or row["source"] == "en"]
    more_effects = effects + [row for row in language if row["source"] != "de"]
    one, two = status(effects), status(more_effects)
    assert {code: two[code] for code in one} == one


def status(rows: list[Row]) -> dict[str, str]:
    """Status by language with English alone as the source; it counts as working whatever it does at home."""
    made = transfer_rows(rows, resamples=20)
    rates = [row for row in rate_rows(rows) if row["language"] != "en"]
    found = judge_model(rates, made, sources={"en": None})
    return {code: item.status for code, item in found.languages.items()}


@few
@given(audits(), st.integers(1, 5))
def test_prompts_that_the_baseline_could_not_score_are_counted_and_change_nothing_else(
    rows: list[Row], count: int
) -> None:
    added = [
        {**row, "prompt_id": f"x{index}", "label": "unscored" if row["intervention"] == "baseline" else "complied"}
        for row in rows
        if row["prompt_id"] == IDS[0]
        for index in range(count)
    ]
    before, after = table(rows), table([*rows, *added])
    for key, row in before.items():
        assert without(after[key], "unpaired") == without(row, "unpaired")
        assert after[key]["unpaired"] == row["unpaired"] + count


@few
@given(audits(), st.randoms(use_true_random=False))
def test_the_order_of_the_verdicts_changes_no_number(rows: list[Row], random) -> None:
    shuffled = random.sample(rows, len(rows))
    assert table(shuffled) == table(rows)
    by_cell = {(row["intervention"], row["source"], row["language"]): row for row in rate_rows(shuffled)}
    assert by_cell == {(row["intervention"], row["source"], row["language"]): row for row in rate_rows(rows)}
    languages = judged(rows).languages
    assert {code: judged(shuffled).languages[code] for code in languages} == dict(languages)


@few
@given(audits())
def test_rows_add_up(rows: list[Row]) -> None:
    baseline = {row["language"]: row for row in rate_rows(rows) if row["intervention"] == "baseline"}
    for row in transfer_rows([*rows, *rows], resamples=20):  # the same verdict twice is one verdict
        assert row["n"] + row["unpaired"] <= len(IDS) and (row["lost_unscored"] or 0) <= row["unpaired"]
        assert row["n"] + (row["lost_unscored"] or 0) == baseline[row["target"]]["n"]
        if row["n"]:
            assert row["difference"] == (row["gained"] - row["lost"]) / row["n"]
            assert row["low"] is not None and row["high"] is not None
            assert row["low"] <= row["difference"] <= row["high"]
