"""py3langid, a well-kept identifier of 140 languages: naive Bayes over byte n-grams, 4.6 MB, about 4,000 texts a second.

Why this one and not another: docs/decisions/025. Its model is read when it is first asked (about a second).
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from refusal_lens.languages.template import base_code

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_COUNTED_AS = {"ary": "ar", "arz": "ar", "wuu": "zh", "yue": "zh", "nb": "no", "nn": "no"}
"""Names that the identifier tells apart and nobody here: spoken Arabic and Chinese, written Norwegian."""


def language_probabilities(text: str, among: frozenset[str] | None = None) -> dict[str, float]:
    """How likely a text is to be in each language.

    Args:
        text: The text; half surrogate pairs in it are read as question marks.
        among: The languages that can occur, of `identified_languages`; None for all. Few are told quicker.

    Returns:
        Probability by code (ISO 639), together 1. Of a text without a word all are alike.

    Example:
        >>> found = language_probabilities("Wasser kocht bei 100 Grad Celsius.")
        >>> max(found, key=lambda code: found[code])
        'de'
    """
    readable = text.encode("utf-8", errors="replace").decode("utf-8")
    found = dict(cast("list[tuple[str, float]]", _identifier(among).rank(readable)))
    for code, counted in _COUNTED_AS.items():
        if code in found:
            found[counted] = found.get(counted, 0.0) + found.pop(code)
    return found


@lru_cache(maxsize=1)
def identified_languages() -> frozenset[str]:
    """Codes of the languages that can be told."""
    return frozenset(_COUNTED_AS.get(code, code) for code in _labels())


def identified_as(code: str) -> str | None:
    """Under which code a language is told.

    Args:
        code: BCP-47 code.

    Returns:
        A code of `identified_languages`; None where the language cannot be told.

    Example:
        >>> identified_as("zh-Hans"), identified_as("nb"), identified_as("fil"), identified_as("tlh")
        ('zh', 'no', 'tl', None)
    """
    known = {base_code(label): _COUNTED_AS.get(label, label) for label in _labels()}
    return known.get(base_code(code))


def _labels() -> list[str]:
    return cast("list[str]", _identifier(None).labels)


@lru_cache(maxsize=8)
def _identifier(among: frozenset[str] | None) -> LanguageIdentifier:
    if among is not None:
        chosen = copy(_identifier(None))  # shares the model's arrays; only the choice of columns is its own
        chosen.set_languages([label for label in _labels() if _COUNTED_AS.get(label, label) in among])
        return chosen
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
