"""What RefusalLens knows of a language: names, script, resource tier, and how a refusal is worded in it."""

from __future__ import annotations

from refusal_lens.languages.language import PHRASE_GROUPS, Language, RefusalPhrases, parse_language
from refusal_lens.languages.loader import USER_FOLDER_VARIABLE, get_language, load_languages, resolve_languages

__all__ = [
    "PHRASE_GROUPS",
    "USER_FOLDER_VARIABLE",
    "Language",
    "RefusalPhrases",
    "get_language",
    "load_languages",
    "parse_language",
    "resolve_languages",
]
