"""Which of the known languages an answer is written in: script first, common words next, lingua where these tie.

Steps: count letters by script; a script that only one known language uses decides (Japanese needs kana, otherwise Han
script is Chinese); among languages of one script, the share of each language's `common_words` decides when it is clear;
lingua (a well-kept identifier of 75 languages, restricted to ours) decides the rest. None means: in no language we know.
It does not find several languages in one answer; the judge matches English phrases besides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from refusal_lens.judging.folding import fold
from refusal_lens.languages import Language, load_languages

if TYPE_CHECKING:
    from lingua import LanguageDetector

# Unicode ranges of the scripts by ISO 15924 code; Jpan and Kore are Han plus their own letters.
_RANGES = {
    "Latn": "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff",
    "Cyrl": "\u0400-\u052f",
    "Grek": "\u0370-\u03ff",
    "Hebr": "\u0590-\u05ff",
    "Arab": "\u0600-\u06ff\u0750-\u077f",
    "Deva": "\u0900-\u097f",
    "Beng": "\u0980-\u09ff",
    "Taml": "\u0b80-\u0bff",
    "Thai": "\u0e00-\u0e7f",
    "Hang": "\u1100-\u11ff\uac00-\ud7af",
    "Kana": "\u3040-\u30ff",
    "Hani": "\u3400-\u4dbf\u4e00-\u9fff",
}
_SCRIPTS = {script: re.compile(f"[{ranges}]") for script, ranges in _RANGES.items()}
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_WINDOW = 400
_KANA_SHARE = 0.06
_CLEAR_SHARE = 0.12
_CLEAR_LEAD = 1.5
_FEW_WORDS = 12
_FOREIGN_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Identified:
    """What a text is written in.

    Attributes:
        language: Code of a known language, None when it is in none or has no letters.
        letters: Letters seen in the window.
        scripts: Scripts seen, most frequent first.
    """

    language: str | None
    letters: int
    scripts: tuple[str, ...]


def identify(text: str, *, expected: str) -> Identified:
    """Identify the language of a text.

    Args:
        text: The text; its first 400 characters are read.
        expected: Code of the language it should be in: preferred where the evidence does not decide.

    Returns:
        The language, or none, with the scripts seen.
    """
    window = text[:_WINDOW]
    counts = Counter({script: len(found) for script, pattern in _SCRIPTS.items() if (found := pattern.findall(window))})
    letters = counts.total()
    scripts = tuple(script for script, _ in counts.most_common())
    if not letters:
        return Identified(None, 0, ())
    return Identified(_decide(window, counts, scripts, expected), letters, scripts)


def _decide(window: str, counts: Counter[str], scripts: tuple[str, ...], expected: str) -> str | None:
    languages = load_languages()
    script = _dominant(counts)
    rivals = [language for language in languages.values() if _written_in(language, script)]
    if not rivals:
        return None
    if len(rivals) == 1:
        return rivals[0].code
    wanted = languages[expected] if _written_in(languages[expected], script) else None
    words = _WORD.findall(fold(window).text)
    speakers = _speakers(tuple(rivals))
    shares = dict.fromkeys((rival.code for rival in rivals), 0.0)
    for word in words:
        for code in speakers.get(word, ()):
            shares[code] += 1 / len(words)
    ranked = sorted(shares, key=lambda code: (-shares[code], code != expected))
    best, second = ranked[0], ranked[1]
    if shares[best] >= _CLEAR_SHARE and shares[best] >= _CLEAR_LEAD * shares[second]:
        return best
    if len(words) >= _FEW_WORDS and shares[best] < _FOREIGN_SHARE and len(scripts) == 1:
        return None
    guess = _lingua_guess(window, tuple(language.code for language in rivals))
    if guess is None or (wanted is not None and len(words) < 3):
        return wanted.code if wanted else best
    return guess


def _dominant(counts: Counter[str]) -> str:
    east = counts["Hani"] + counts["Kana"]
    merged = Counter({script: n for script, n in counts.items() if script not in {"Hani", "Kana"}})
    if east:
        # One Han character says about as much as two or three letters.
        merged["Jpan" if counts["Kana"] >= _KANA_SHARE * east else "Hani"] = 2 * east
    if merged["Hang"]:
        merged["Hang"] *= 2
    return merged.most_common(1)[0][0]


_SAME_SCRIPT = {"Hans": "Hani", "Hant": "Hani", "Kore": "Hang"}


def _written_in(language: Language, script: str) -> bool:
    return _SAME_SCRIPT.get(language.script, language.script) == script


@lru_cache(maxsize=16)
def _speakers(languages: tuple[Language, ...]) -> Mapping[str, tuple[str, ...]]:
    """Which of some languages have a common word, by folded word."""
    speakers: dict[str, tuple[str, ...]] = {}
    for language in languages:
        for word in sorted({fold(word).text for word in language.common_words}):
            speakers[word] = (*speakers.get(word, ()), language.code)
    return speakers


def _lingua_guess(text: str, codes: tuple[str, ...]) -> str | None:
    detector = _detector(codes)
    if detector is None:
        return None
    guess = detector.detect_language_of(text)
    return guess.iso_code_639_1.name.lower() if guess is not None else None


@lru_cache(maxsize=8)
def _detector(codes: tuple[str, ...]) -> LanguageDetector | None:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    known = [code for name in codes if (code := getattr(IsoCode639_1, name.upper(), None)) is not None]
    if len(known) < 2:
        return None
    return LanguageDetectorBuilder.from_iso_codes_639_1(*known).build()
