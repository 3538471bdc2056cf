"""Language files: what is shipped, what a faulty file says, what a user's folder changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from refusal_lens.errors import DataError, UserError
from refusal_lens.judging.patterns import compile_lexicon
from refusal_lens.languages import PHRASE_GROUPS, get_language, load_languages, parse_language, resolve_languages

GOOD = """schema_version = 1
code = "eo"
name = "Esperanto"
english_name = "Esperanto"
script = "Latn"
direction = "ltr"
tier = "low"
spaced = true
provenance = "test"
common_words = ["la", "kaj"]
[phrases]
inability = ["mi ne povas (helpi|fari)"]
"""


def test_fourteen_languages_compile_and_say_where_they_come_from():
    languages = load_languages()
    assert list(languages) == ["ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh"]
    for language in languages.values():
        assert compile_lexicon(language).phrases
        assert "reader" in language.provenance


@pytest.mark.parametrize("code", sorted(load_languages()))
def test_every_concept_is_worded_in_every_language(code: str):
    phrases = load_languages()[code].phrases
    missing = {group for group in PHRASE_GROUPS if not phrases.group(group)}
    assert not missing, missing


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('tier = "low"', 'tier = "lowest"', "tier"),
        ("spaced = true", 'spaced = "yes"', "spaced"),
        ("inability", "inabillity", "inabillity"),
        ("schema_version = 1", "schema_version = 9", "schema_version"),
        ('name = "Esperanto"', 'name = ""', "name"),
        ("[phrases]", "[words]", "words"),
    ],
)
def test_a_faulty_file_is_named_with_its_field(old: str, new: str, said: str):
    with pytest.raises(DataError, match=said) as error:
        parse_language(GOOD.replace(old, new, 1).encode(), origin="eo.toml")
    assert "eo.toml" in str(error.value)


def test_a_phrase_that_is_no_pattern_is_named():
    language = parse_language(GOOD.replace("(helpi|fari)", "(helpi").encode(), origin="eo.toml")
    with pytest.raises(DataError, match="mi ne povas"):
        compile_lexicon(language)


def test_a_users_folder_adds_a_language_that_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from refusal_lens.judging import Answer, get_judge

    (tmp_path / "eo.toml").write_text(GOOD, "utf-8")
    monkeypatch.setenv("REFUSAL_LENS_LANGUAGES", str(tmp_path))
    assert "eo" in load_languages()
    assert get_judge("native").judge([Answer("Mi ne povas helpi.", "eo")])[0].label == "refused"


def test_a_missing_folder_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REFUSAL_LENS_LANGUAGES", "/nowhere/at/all")
    with pytest.raises(UserError, match="/nowhere/at/all"):
        load_languages()


def test_lists_of_languages():
    assert resolve_languages("de, en,de") == ("de", "en")
    assert len(resolve_languages("all")) == 14
    with pytest.raises(UserError, match="'de'"):
        get_language("german")
    with pytest.raises(UserError):
        resolve_languages(" , ")
