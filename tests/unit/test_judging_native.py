"""The native judge on probes in every language, on damaged answers, and on the phrases' own form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusal_lens.judging import Answer, NativeJudge, get_judge
from refusal_lens.judging.folding import fold
from refusal_lens.judging.reading import read_lead
from refusal_lens.languages import load_languages

PROBES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "judging_probes.jsonl").read_text("utf-8").splitlines()
]
JUDGE = NativeJudge()


def verdict(text: str, language: str = "en"):
    return JUDGE.judge([Answer(text, language)])[0]


def test_every_language_has_probes_of_both_kinds():
    kinds = {(probe["lang"], probe["expected"]) for probe in PROBES}
    assert kinds == {(code, kind) for code in load_languages() for kind in ("refused", "complied")}


@pytest.mark.parametrize("language", sorted(load_languages()))
def test_refusals_are_found_and_in_their_language(language: str):
    for probe in PROBES:
        if probe["lang"] == language and probe["expected"] == "refused":
            found = verdict(probe["text"], language)
            assert found.label == "refused", (probe["text"], found)
            assert not found.off_language, probe["text"]


@pytest.mark.parametrize("language", sorted(load_languages()))
def test_benign_answers_are_rarely_refusals(language: str):
    benign = [probe for probe in PROBES if probe["lang"] == language and probe["expected"] == "complied"]
    found = [verdict(probe["text"], language) for probe in benign]
    wrong = [probe["text"] for probe, one in zip(benign, found, strict=True) if one.label != "complied"]
    assert len(benign) >= (20 if language == "yo" else 25)
    assert len(wrong) <= 0.02 * len(benign), wrong
    assert not any(one.off_language for one in found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty"), (" \n", "empty"), ("ha " * 200, "degenerate"), ("1 2 3 !!! ...", "no words"), ("...", "no words")],
)
def test_what_cannot_be_judged_is_unscored(text: str, reason: str):
    found = verdict(text)
    assert (found.label, found.score, found.reason, found.reading) == ("unscored", None, reason, "invalid")


def test_an_unknown_language_is_unscored():
    assert verdict("मैं इसमें आपकी मदद नहीं कर सकता, कृपया मुझे क्षमा करें।", "en").reason == "language not known"


def test_an_english_refusal_of_a_thai_prompt_is_judged_and_marked():
    found = verdict("I'm sorry, but I can't help you with that request.", "th")
    assert (found.label, found.language, found.off_language) == ("refused", "en", True)


@pytest.mark.parametrize("apostrophe", ["'", "\u2019", "\u02bc", "\uff07"])
def test_all_apostrophes_are_one(apostrophe: str):
    assert verdict(f"I can{apostrophe}t help with that.").label == "refused"


def test_missing_accents_do_not_matter():
    assert verdict("Je suis desole, mais je ne peux pas vous aider a faire cela.", "fr").label == "refused"


def test_quoted_speech_is_somebody_elses():
    assert verdict('The screen shows "I cannot help you with that" while it restarts.').label == "complied"


def test_an_apology_alone_is_no_refusal():
    assert verdict("Sorry for the long text, here is the recipe you wanted.").label == "complied"


def test_evidence_points_at_the_words():
    text = "\n  I’m sorry, but I can’t help with that."
    found = verdict(text)
    spans = {evidence.group: text[evidence.start : evidence.end] for evidence in found.evidence}
    assert spans["inability"].startswith("I can’t help")
    assert "sorry" in spans["apology"]


def test_a_cut_answer_is_marked():
    assert JUDGE.judge([Answer("I can't help with", "en", finished=False)])[0].truncated


def test_the_name_changes_with_the_phrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shipped = Path(__file__).parents[2] / "src" / "refusal_lens" / "languages" / "nl.toml"
    (tmp_path / "nl.toml").write_text(shipped.read_text("utf-8") + "\n# another byte\n", "utf-8")
    before = get_judge("native").name
    monkeypatch.setenv("REFUSAL_LENS_LANGUAGES", str(tmp_path))
    assert get_judge("native").name != before


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.sampled_from(sorted(load_languages())))
def test_no_text_breaks_the_judge(text: str, language: str):
    found = verdict(text, language)
    assert (found.score is None) == (found.label == "unscored")
    assert all(0 <= evidence.start <= evidence.end <= len(text) for evidence in found.evidence)


@given(st.text(max_size=200))
def test_folded_spans_stay_inside(text: str):
    folded = fold(text)
    for start in range(0, len(folded.text), 7):
        low, high = folded.span(start, min(start + 3, len(folded.text)))
        assert 0 <= low <= high <= len(text)


def test_the_lead_ends_at_the_list():
    lead = read_lead("Three ideas:\n1. I cannot help it\n2. more")
    assert lead.text.strip() == "Three ideas:"
    assert lead.list_at is not None
