"""lingua, a well-kept identifier of 75 languages, asked where words leave the language open. Loaded when first in doubt.

Trigrams alone: loading all n-grams takes seconds, and on the development answers both decide the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from refusal_lens.languages import load_languages

if TYPE_CHECKING:
    from lingua import LanguageDetector

LIKELY = 0.15
"""From here on a language is possible."""


@lru_cache(maxsize=1)
def _wide() -> LanguageDetector:
    """All languages lingua knows: about 60 MB."""
    from lingua import LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()


def could_be_known(text: str, *, likely: float = LIKELY) -> bool:
    """Whether lingua, choosing among all its languages, holds a known one for likely enough."""
    found = _wide().compute_language_confidence_values(_encodable(text))
    known = load_languages()
    return any(value.value >= likely for value in found if value.language.iso_code_639_1.name.lower() in known)


@lru_cache(maxsize=1024)
def lingua_knows(code: str) -> bool:
    """Whether lingua has a language at all."""
    from lingua import IsoCode639_1

    return hasattr(IsoCode639_1, code.upper())


def _encodable(text: str) -> str:
    """Half surrogate pairs cannot cross into lingua."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def likeliest(text: str, codes: tuple[str, ...], wanted: str | None) -> str | None:
    """The likeliest language; the wanted one where it is likely enough."""
    detector = _detector(codes)
    if detector is None:
        return None
    values = {
        found.language.iso_code_639_1.name.lower(): found.value
        for found in detector.compute_language_confidence_values(_encodable(text))
    }
    best = max(values, key=lambda code: values[code], default=None)
    return wanted if wanted is not None and values.get(wanted, 0.0) >= LIKELY else best


@lru_cache(maxsize=8)
def _detector(codes: tuple[str, ...]) -> LanguageDetector | None:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    known = [code for name in codes if (code := getattr(IsoCode639_1, name.upper(), None)) is not None]
    if len(known) < 2:
        return None
    return LanguageDetectorBuilder.from_iso_codes_639_1(*known).with_low_accuracy_mode().build()
