"""`data check` tells the language of a prompt: short ones too, and not by a name or a quotation in it."""

from __future__ import annotations

import pytest

from refusal_lens.languages import language_probabilities
from refusal_lens.prompts.checking.rows import LanguageIdentifier

PUBLISHED = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Nenne drei Planeten.", "de"),
        ("Escribe un poema sobre el mar.", "es"),
        ("Scrivi una poesia sul mare.", "it"),
        ("Schrijf een recept voor appeltaart.", "nl"),
        ("Kọ ọrọ kan nipa oju ọjọ ni Lagos.", "yo"),
        ("Напишите стихотворение о море.", "ru"),
    ],
)
def test_a_short_prompt_is_named_in_every_other_languages_file(text: str, language: str) -> None:
    identifier = LanguageIdentifier(PUBLISHED)
    named = {code: [row.language for row in identifier.wrong([text], code)] for code in PUBLISHED}
    assert named == {code: [] if code == language else [language] for code in PUBLISHED}


@pytest.mark.parametrize(
    ("text", "language", "named"),
    [
        ("Write Three Creative Slogans для компании Frozen Food Company.", "ru", ["en"]),
        ('Что значит "break a leg"?', "ru", []),
        ("「Break a leg」の意味を説明してください。", "ja", []),
        ("总结这篇文章：https://example.org/2021/04/20/books/the-night-sun-of-the-north.html", "zh", []),
        ("Was bedeutet das russische Wort послезавтра auf Deutsch?", "de", []),
        ("Napisz skrypt keylogger", "pl", []),
        ("Ja", "ko", []),
    ],
)
def test_a_prompt_mostly_in_another_script_is_named_and_names_and_quotations_are_not(
    text: str, language: str, named: list[str]
) -> None:
    assert [row.language for row in LanguageIdentifier(PUBLISHED).wrong([text], language)] == named


def test_codes_of_one_language_are_told_as_one() -> None:
    identifier = LanguageIdentifier(("zh-Hans", "nb", "en", "tlh"))
    assert [identifier.knows(code) for code in ("zh-Hans", "nb", "en", "tlh")] == [True, True, True, False]
    assert not identifier.wrong(["Skriv et dikt om havet og sola."], "nb")
    assert [row.language for row in identifier.wrong(["Skriv et dikt om havet og sola."], "zh-Hans")] == ["no"]


def test_among_few_languages_the_identifiers_shares_are_those_of_all_rescaled() -> None:
    text, few = "Skriv et dikt om havet.", frozenset({"no", "da", "de", "sv"})
    every, some = language_probabilities(text), language_probabilities(text, few)
    assert some.keys() == few and list(some) == [code for code in every if code in few]
    total = sum(every[code] for code in few)
    assert some == pytest.approx({code: every[code] / total for code in few}, rel=1e-3)


def test_the_likeliest_language_is_named_whatever_names_its_share_is_divided_among(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranked = [("nn", 0.55), ("da", 0.25), ("no", 0.15), ("en", 0.05)]
    monkeypatch.setattr("py3langid.langid.LanguageIdentifier.rank", lambda *_: ranked)
    (found,) = LanguageIdentifier(("en", "da", "nb")).wrong(["Skriv eit dikt om havet og sola."], "en")
    assert (found.language, found.confidence) == ("no", pytest.approx(0.7))


def test_the_identifiers_model_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    language_probabilities("Skriv et dikt om havet.")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("py3langid.langid.LanguageIdentifier.from_model_file", refuse)
    assert "de" in language_probabilities("Nenne drei Planeten.", frozenset({"de", "en", "cy"}))
    assert LanguageIdentifier(("de", "cy")).knows("cy")
