"""py3langid, a well-kept identifier of 140 languages: naive Bayes over byte n-grams, 4.6 MB, about 4,000 texts a second.

Why this one and not another: docs/decisions/026. Its model is read when it is first asked (about a second).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_COUNTED_AS = {"ary": "ar", "arz": "ar", "wuu": "zh", "yue": "zh", "nb": "no", "nn": "no"}
"""Names that the identifier tells apart and nobody here: spoken Arabic and Chinese, written Norwegian."""


def language_probabilities(text: str) -> dict[str, float]:
    """How likely a text is to be in each language.

    Args:
        text: The text; half surrogate pairs in it are read as question marks.

    Returns:
        Probability by code (ISO 639), the likeliest first; together 1. A text without a word has no likeliest one.

    Example:
        >>> next(iter(language_probabilities("Wasser kocht bei 100 Grad Celsius.")))
        'de'
    """
    readable = text.encode("utf-8", errors="replace").decode("utf-8")
    found: dict[str, float] = {}
    for code, value in _identifier().rank(readable):
        counted = _COUNTED_AS.get(code, code)
        found[counted] = found.get(counted, 0.0) + float(value)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def identified_languages() -> frozenset[str]:
    """Codes of the languages that can be told."""
    return frozenset(_COUNTED_AS.get(code, code) for code in _identifier().labels)


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
