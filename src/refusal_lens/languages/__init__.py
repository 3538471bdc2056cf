"""What RefusalLens knows of a language: names, script, resource tier, and how a refusal is worded in it."""

from __future__ import annotations

from refusal_lens.languages.further import FURTHER_WORDS
from refusal_lens.languages.identifier import identified_as, identified_languages, language_probabilities
from refusal_lens.languages.language import PHRASE_GROUPS, Language, PhraseGroup, RefusalPhrases, parse_language
from refusal_lens.languages.loader import (
    USER_FOLDER_VARIABLE,
    get_language,
    load_languages,
    resolve_languages,
    shipped_languages,
)
from refusal_lens.languages.reliability import Reliability, reliability

__all__ = [
    "FURTHER_WORDS",
    "PHRASE_GROUPS",
    "USER_FOLDER_VARIABLE",
    "Language",
    "PhraseGroup",
    "RefusalPhrases",
    "Reliability",
    "get_language",
    "identified_as",
    "identified_languages",
    "language_probabilities",
    "load_languages",
    "parse_language",
    "reliability",
    "resolve_languages",
    "shipped_languages",
]
