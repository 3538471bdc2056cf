"""Which of the known languages an answer is written in: script first, common words next, an identifier where these tie.

Steps: code in fences is left out; count letters by script; a script that only one known language uses decides (Japanese
needs kana, otherwise Han script is Chinese); among languages of one script, function words of further languages
(`languages/further.py`), letters that no known language has, or few common words of ours may show that it is none of ours,
which the identifier (`languages/identifier.py`) must confirm where it knows the prompt's language;
else one or two words are in the prompt's language; else the share of each language's `common_words` decides: for the
prompt's language when no other has more of them, for another when it is clear; the identifier, asked of ours alone,
decides the rest, the prompt's language where it is likely enough. None means: in no language we know. It does not find
several languages in one answer; the judge matches English phrases besides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from refusal_lens.judging.folding import fold
from refusal_lens.judging.scripts import count_scripts, dominant
from refusal_lens.languages import (
    FURTHER_WORDS,
    PHRASE_GROUPS,
    Language,
    identified_languages,
    language_probabilities,
    load_languages,
)

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_WINDOW, _ENOUGH = 400, 200  # characters read, and of them by the identifier
_CLEAR_SHARE = 0.12
_CLEAR_LEAD = 1.5
_FEW_WORDS = 12
_TOO_FEW = 3
_MANY_WORDS = 40
_OWN_WORDS = 2
_MIXED_LETTERS = 15
_UNSURE = "?"
_LIKELY, _LIKELY_OF_FEW = 0.15, 0.05  # from here on a language is possible, or the prompt's in few words
_ANOTHER = 0.3  # and from here on a language that is not known is taken for one
_FOREIGN_SHARE = 0.03
_WEAK_SHARE = 0.2
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
    exclusive: Mapping[str, str]
    letters: frozenset[str]
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
    window = (_FENCED.sub(" ", text) if "```" in text else text)[:_WINDOW]
    counts = count_scripts(window)
    if not counts:
        known = load_languages()
        code = sum(map(str.isalpha, text[:_WINDOW]))  # code alone answers in the language that it was asked in
        return Identified(expected if code and expected in known else None, code, frozenset(known))
    script = dominant(counts)
    readers = _readers_of(script)
    rivals = readers.rivals
    mixed = _mixed_in(counts, script)
    if not rivals:
        return Identified(None, counts.total(), mixed)
    if len(rivals) == 1 and not readers.further_speakers:
        return Identified(rivals[0].code, counts.total(), mixed)
    words = _WORD.findall(fold(window).text)
    counts_of = _count(words, readers.speakers)
    wanted = expected if any(rival.code == expected for rival in rivals) else None
    if _is_further(window, words, counts_of, readers, wanted):
        return Identified(None, counts.total(), mixed, further=True)
    if len(rivals) == 1:
        return Identified(rivals[0].code, counts.total(), mixed)
    if wanted is not None and len(words) < _TOO_FEW:
        return Identified(wanted, counts.total(), mixed | {rival.code for rival in rivals})
    language, own = _by_words(words, counts_of, readers, wanted, alone=len(counts) == 1)
    if language == _UNSURE:
        language = _likeliest(window, rivals, wanted)
    return Identified(language, counts.total(), mixed | own)


_BY_SCRIPT: dict[str, tuple[Mapping[str, Language], _Readers]] = {}


def _readers_of(script: str) -> _Readers:
    """Who writes in a script; remembered for the languages as loaded, whose hashing would cost every answer."""
    known = load_languages()
    found = _BY_SCRIPT.get(script)
    if found is None or found[0] is not known:
        found = _BY_SCRIPT[script] = known, _readers(script, tuple(known.values()))
    return found[1]


def _by_words(
    words: list[str], counts: Counter[str], readers: _Readers, wanted: str | None, *, alone: bool
) -> tuple[str | None, frozenset[str]]:
    """The language by its common words, `_UNSURE`, or None; and the languages whose own words are there."""
    rivals = readers.rivals
    exclusive = Counter(map(readers.exclusive.__getitem__, readers.exclusive.keys() & words))
    few = len(words) < _FEW_WORDS
    others = frozenset(rival.code for rival in rivals if few or exclusive[rival.code] >= _OWN_WORDS)
    ranked = sorted((rival.code for rival in rivals), key=lambda code: (-counts[code], code != wanted))
    best, second = (counts[code] / max(len(words), 1) for code in ranked[:2])
    if ranked[0] == wanted and best >= _CLEAR_SHARE:
        return wanted, others
    if wanted is not None and (few or exclusive[ranked[0]] < _OWN_WORDS):
        return (
            _UNSURE,
            others,
        )  # words that it shares prove no other language: "a" and "to" of English are Yoruba's, too
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


_SAME_SCRIPT = {"Hans": "Hani", "Hant": "Hani", "Kore": "Hang"}


@lru_cache(maxsize=64)
def _writers(script: str, languages: tuple[Language, ...]) -> tuple[Language, ...]:
    """Which of some languages are written in a script."""
    return tuple(language for language in languages if _SAME_SCRIPT.get(language.script, language.script) == script)


def _is_further(text: str, words: list[str], counts: Counter[str], readers: _Readers, wanted: str | None) -> bool:
    """Whether a text is in a language that no file describes: words or letters raise the question, the identifier answers it."""
    few = len(words) < _FEW_WORDS
    marks = len(readers.marks.intersection(words))
    ours = max(counts.values(), default=0)
    theirs = max(_count(words, readers.further_speakers).values(), default=0) if marks else 0
    suspected = _strange(text, words, readers) or (marks > 0 if few else marks >= _OWN_WORDS and theirs > ours)
    # A few words may all be shared: "no", "es" and "de" make no Spanish of Catalan.
    share = counts[wanted] if wanted is not None and len(words) < _MANY_WORDS else ours
    if not (suspected or share < _WEAK_SHARE * len(words) or (few and len(words) >= _TOO_FEW)):
        return False
    if wanted is not None and wanted not in identified_languages():  # a language of the user's own: words alone decide
        return theirs >= counts[wanted] + _OWN_WORDS
    found = language_probabilities(text[:_ENOUGH])
    known = load_languages()
    possible = any(value >= _LIKELY for code, value in found.items() if code in known)
    expected = few and not suspected and wanted is not None and found[wanted] >= _LIKELY_OF_FEW
    return not (possible or expected) and max(found.values()) >= _ANOTHER


def _count(words: list[str], speakers: Mapping[str, tuple[str, ...]]) -> Counter[str]:
    """How many words each language has."""
    return Counter(chain.from_iterable(filter(None, map(speakers.get, words))))


def _likeliest(text: str, rivals: tuple[Language, ...], wanted: str | None) -> str:
    """The likeliest of some languages; the wanted one where it is likely enough, or where nothing is."""
    found = language_probabilities(text[:_ENOUGH])
    values = {rival.code: found.get(rival.code, 0.0) for rival in rivals}
    best = max(values, key=lambda code: (values[code], code == wanted))
    enough = wanted is not None and values[wanted] >= _LIKELY * sum(values.values())
    return wanted if enough and wanted is not None else best


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
        if code not in taken and dominant(count_scripts(text)) == script
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
    exclusive = {word: codes[0] for word, codes in speakers.items() if len(codes) == 1}
    return _Readers(
        rivals, speakers, exclusive, letters, further_speakers, frozenset(further_speakers).difference(speakers)
    )


def _speakers_of(words: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    """Who has a word, by word."""
    speakers: dict[str, tuple[str, ...]] = {}
    for code, own in words.items():
        for word in own:
            speakers[word] = (*speakers.get(word, ()), code)
    return speakers
