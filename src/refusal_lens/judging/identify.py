"""Which of the known languages an answer is written in: script first, common words next, lingua where these tie.

Steps: count letters by script; a script that only one known language uses decides (Japanese needs kana, otherwise Han
script is Chinese); among languages of one script, function words of further languages (`languages/further.py`), letters that
no known language has, or few common words of ours may show that it is none of ours, which lingua (a well-kept identifier
of 75 languages) must confirm where it knows that language;
else one or two words are in the prompt's language; else the share of each language's `common_words` decides: for the
prompt's language when no other has more of them, for another when it is clear; lingua, restricted to ours, decides the
rest, the prompt's language where it is likely enough. None means: in no language we know. It does not find several
languages in one answer; the judge matches English phrases besides.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from refusal_lens.judging.folding import fold
from refusal_lens.languages import FURTHER_WORDS, PHRASE_GROUPS, Language, load_languages

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
_OTHER = "Zyyy"  # letters of a script without an entry above: Georgian, Telugu, Khmer, Amharic ...


class _Scripts(dict[str, str]):
    """From a character to its script, "" for none, computed on first use."""

    def __missing__(self, character: str) -> str:
        script = next((script for script, pattern in _PATTERNS.items() if pattern.match(character)), "")
        if not script and unicodedata.category(character)[0] == "L":
            script = _OTHER
        self[character] = script
        return script


_PATTERNS = {script: re.compile(f"[{letters}]") for script, letters in _RANGES.items()}
_SCRIPTS = _Scripts()
_BEYOND_LATIN = re.compile(
    "[\u0370-\u1dff\u1f00-\u1fff\u2c00-\u2fff\u3040-\ud7ff\uf900-\ufdff\ufe70-\ufefe\uff10-\uffdc\U00020000-\U0003ffff]"
)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_WINDOW = 400
_KANA_SHARE = 0.06
_CLEAR_SHARE = 0.12
_CLEAR_LEAD = 1.5
_FEW_WORDS = 12
_TOO_FEW = 3
_ENOUGH_WORDS = 5
_OWN_WORDS = 2
_MIXED_LETTERS = 15
_UNSURE = "?"
_LIKELY = 0.15
_LIKELIEST = 0.5
_FOREIGN_SHARE = 0.03
_WEAK_SHARE = 0.2
_MARKED_SHARE = 0.25
_STRANGE_WORDS = 0.1


@dataclass(frozen=True, slots=True)
class Identified:
    """What a text is written in.

    Attributes:
        language: Code of a known language, None when it is in none or has no letters.
        letters: Letters seen in the window.
        others: Known languages that may be mixed in: the text is too short to exclude them, or has their own words.
        further: It is in a language that is recognised but not known.
    """

    language: str | None
    letters: int
    others: frozenset[str] = frozenset()
    further: bool = False


@dataclass(frozen=True, slots=True)
class _Readers:
    """The languages of one script: ours with their letters and who has a common word, the further ones, and their own words."""

    rivals: tuple[Language, ...]
    speakers: Mapping[str, tuple[str, ...]]
    letters: frozenset[str]
    further: tuple[str, ...]
    further_speakers: Mapping[str, tuple[str, ...]]
    marks: frozenset[str]


def identify(text: str, *, expected: str) -> Identified:
    """Identify the language of a text.

    Args:
        text: The text; its first 400 characters are read.
        expected: Code of the language it should be in: preferred where the evidence does not decide.

    Returns:
        The language, or none, with the scripts seen.
    """
    window = text[:_WINDOW]
    counts = _count_scripts(window)
    if not counts:
        return Identified(None, 0)
    script = _dominant(counts)
    readers = _readers_of(script)
    rivals = readers.rivals
    mixed = _mixed_in(counts, script)
    if not rivals:
        return Identified(None, counts.total(), mixed)
    if len(rivals) == 1 and not readers.further:
        return Identified(rivals[0].code, counts.total(), mixed)
    words = _WORD.findall(fold(window).text)
    if _is_further(window, words, readers):
        return Identified(None, counts.total(), mixed, further=True)
    if len(rivals) == 1:
        return Identified(rivals[0].code, counts.total(), mixed)
    wanted = expected if any(rival.code == expected for rival in rivals) else None
    if wanted is not None and len(words) < _TOO_FEW:
        return Identified(wanted, counts.total(), mixed | {rival.code for rival in rivals})
    language, own = _by_words(words, readers, wanted, alone=len(counts) == 1)
    if language == _UNSURE:
        codes = tuple(rival.code for rival in rivals)
        language = _lingua_guess(window, codes, wanted) or wanted or rivals[0].code
    return Identified(language, counts.total(), mixed | own)


_BY_SCRIPT: dict[str, tuple[Mapping[str, Language], _Readers]] = {}


def _readers_of(script: str) -> _Readers:
    """Who writes in a script; remembered for the languages as loaded, whose hashing would cost every answer."""
    known = load_languages()
    found = _BY_SCRIPT.get(script)
    if found is None or found[0] is not known:
        found = _BY_SCRIPT[script] = known, _readers(script, tuple(known.values()))
    return found[1]


def _count_scripts(text: str) -> Counter[str]:
    """Letters by script."""
    if _BEYOND_LATIN.search(text) is None:
        letters = sum(map(len, _WORD.findall(text)))
        return Counter({"Latn": letters}) if letters else Counter()
    counts: Counter[str] = Counter()
    for character, n in Counter(text).items():
        counts[_SCRIPTS[character]] += n
    del counts[""]
    return counts


def _by_words(
    words: list[str], readers: _Readers, wanted: str | None, *, alone: bool
) -> tuple[str | None, frozenset[str]]:
    """The language by its common words, `_UNSURE`, or None; and the languages whose own words are there."""
    rivals, speakers = readers.rivals, readers.speakers
    counts = dict.fromkeys((rival.code for rival in rivals), 0)
    exclusive: dict[str, set[str]] = {}
    for word in words:
        codes = speakers.get(word)
        if codes is None:
            continue
        for code in codes:
            counts[code] += 1
        if len(codes) == 1:
            exclusive.setdefault(codes[0], set()).add(word)
    few = len(words) < _FEW_WORDS
    others = frozenset(rival.code for rival in rivals if few or len(exclusive.get(rival.code, ())) >= _OWN_WORDS)
    ranked = sorted(counts, key=lambda code: (-counts[code], code != wanted))
    best, second = (counts[code] / max(len(words), 1) for code in ranked[:2])
    if ranked[0] == wanted and best >= _CLEAR_SHARE:
        return wanted, others
    if few and wanted is not None and counts[wanted]:
        return _UNSURE, others
    if best >= _CLEAR_SHARE and best >= _CLEAR_LEAD * second:
        return ranked[0], others
    foreign = not few and best < _FOREIGN_SHARE and alone
    return (None if foreign else _UNSURE), others


def _mixed_in(counts: Counter[str], script: str) -> frozenset[str]:
    """Languages of the other scripts that enough letters are of."""
    strange = [other for other, n in counts.items() if other != script and n >= _MIXED_LETTERS]
    if not strange:
        return frozenset()
    languages = tuple(load_languages().values())
    return frozenset(language.code for other in strange for language in _writers(other, languages))


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


@lru_cache(maxsize=64)
def _writers(script: str, languages: tuple[Language, ...]) -> tuple[Language, ...]:
    """Which of some languages are written in a script."""
    return tuple(language for language in languages if _SAME_SCRIPT.get(language.script, language.script) == script)


def _is_further(text: str, words: list[str], readers: _Readers) -> bool:
    """Whether a text is in a language that no file describes: by its function words, then by lingua."""
    if _strange(text, words, readers) and not _could_be_known(text, likely=_LIKELIEST):
        return True
    present = len(readers.marks.intersection(words))
    if present < (1 if len(words) < _FEW_WORDS else _OWN_WORDS):
        ours = sum(map(readers.speakers.__contains__, words))
        weak = _MARKED_SHARE if present else _WEAK_SHARE
        unclear = len(words) >= _ENOUGH_WORDS and ours < weak * len(words)
        return unclear and not _could_be_known(text)
    own = Counter(code for word in words for code in readers.speakers.get(word, ()))
    most = max(own.values(), default=0)
    theirs = Counter(code for word in words for code in readers.further_speakers.get(word, ()))
    likeliest = max(readers.further, key=lambda code: theirs[code])
    if theirs[likeliest] <= most:
        return False
    if not _lingua_knows(likeliest):
        return theirs[likeliest] >= most + _OWN_WORDS
    return not _could_be_known(text)


def _strange(text: str, words: list[str], readers: _Readers) -> bool:
    """Whether words have letters that no known language of the script has: uk i, hu o with two strokes, sv a with a ring."""
    lower = text.lower()
    strange = {letter for letter in set(lower).difference(readers.letters) if letter.isalpha()}
    if not strange:
        return False
    with_them = sum(not strange.isdisjoint(word) for word in lower.split())
    return with_them >= max(1, _STRANGE_WORDS * len(words))


@lru_cache(maxsize=64)
def _readers(script: str, known: tuple[Language, ...]) -> _Readers:
    """Who writes in a script."""
    rivals = _writers(script, known)
    taken = {language.code for language in known}
    further = {
        code: set(fold(text).text.split())
        for code, text in FURTHER_WORDS.items()
        if code not in taken and _dominant(_count_scripts(text)) == script
    }
    speakers = _speakers_of({rival.code: {fold(word).text for word in rival.common_words} for rival in rivals})
    further_speakers = _speakers_of(further)
    written = (
        text
        for rival in rivals
        for group in PHRASE_GROUPS
        for text in (*rival.phrases.group(group), *rival.common_words)
    )
    letters = frozenset(letter for text in written for letter in text.lower()) | frozenset("abcdefghijklmnopqrstuvwxyz")
    return _Readers(
        rivals, speakers, letters, tuple(further), further_speakers, frozenset(further_speakers).difference(speakers)
    )


def _speakers_of(words: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    """Who has a word, by word."""
    speakers: dict[str, tuple[str, ...]] = {}
    for code, own in words.items():
        for word in own:
            speakers[word] = (*speakers.get(word, ()), code)
    return speakers


@lru_cache(maxsize=1)
def _wide() -> LanguageDetector:
    """All languages lingua knows, by trigrams alone: about 60 MB, loaded when first in doubt."""
    from lingua import LanguageDetectorBuilder

    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()


def _could_be_known(text: str, *, likely: float = _LIKELY) -> bool:
    """Whether lingua, choosing among all its languages, holds a known one for likely enough."""
    found = _wide().compute_language_confidence_values(_encodable(text))
    known = load_languages()
    return any(value.value >= likely for value in found if value.language.iso_code_639_1.name.lower() in known)


@lru_cache(maxsize=1024)
def _lingua_knows(code: str) -> bool:
    from lingua import IsoCode639_1

    return hasattr(IsoCode639_1, code.upper())


def _encodable(text: str) -> str:
    """Half surrogate pairs cannot cross into lingua."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _lingua_guess(text: str, codes: tuple[str, ...], wanted: str | None) -> str | None:
    """The likeliest language; the wanted one where it is likely enough."""
    detector = _detector(codes)
    if detector is None:
        return None
    values = {
        found.language.iso_code_639_1.name.lower(): found.value
        for found in detector.compute_language_confidence_values(_encodable(text))
    }
    best = max(values, key=lambda code: values[code], default=None)
    return wanted if wanted is not None and values.get(wanted, 0.0) >= _LIKELY else best


@lru_cache(maxsize=8)
def _detector(codes: tuple[str, ...]) -> LanguageDetector | None:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    known = [code for name in codes if (code := getattr(IsoCode639_1, name.upper(), None)) is not None]
    if len(known) < 2:
        return None
    # Trigrams alone: loading all n-grams takes seconds, and on the development answers both decide the same.
    return LanguageDetectorBuilder.from_iso_codes_639_1(*known).with_low_accuracy_mode().build()
