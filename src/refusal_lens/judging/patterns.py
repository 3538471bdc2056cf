r"""Compile the phrases of a language file into an index that finds all groups of an answer in one walk.

A phrase is a Python regular expression matched against folded text (lower case, without accents), with three
short-hands: a space matches any white space, `~` a gap of up to 12 characters and `~~` one of up to 60 inside one
sentence. In languages that separate words, a phrase starts at the start of a word and may end inside one, so that a stem
covers its inflections; `word_prefixes` names particles that may be written together with the word that follows.
A phrase that starts with `^` matches at the start of the lead only, quotation marks and dashes apart. Pieces named in
`spellings` ("n't", "nicht") match all their spellings, wherever they stand in a phrase.

Why an index: a plain alternation tries every phrase at every character. Which phrases could start with the few characters
that stand at a place is found once, by partial matching, when these characters are first met; at most places that is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import regex

from refusal_lens.errors import DataError
from refusal_lens.judging.folding import fold_pattern
from refusal_lens.languages import PHRASE_GROUPS, Language, PhraseGroup, load_languages

_GAP = r"[^.!?。؟\n]{0,%d}?"
_CAPTURING = re.compile(r"(?<!\\)\((?!\?)")
_CLASS_OR_SPACE = re.compile(r"(\\.|\[\^?\]?[^\]]*\])| (\??)")
_BENIGN = "benign"
_KEYS = 100_000  # beginnings remembered per language; a text made to fill them starts the memory anew

Entry = tuple[str, "re.Pattern[str]"]
Phrase = tuple[str, "re.Pattern[str]", "regex.Pattern[str]"]
# Phrases that may start at a place, and benign wordings.
Started = tuple[tuple[Entry, ...], tuple["re.Pattern[str]", ...]]
_NOTHING: Started = ((), ())


@dataclass(frozen=True, slots=True)
class Hit:
    """One phrase group found: its name and the span [start, end) in the folded text."""

    group: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Compiled phrases of one language.

    Attributes:
        code: Language code.
        anchored: Patterns matched at the start of the text only.
        phrases: The other patterns with their groups, in the file's order; each also for partial matching.
        places: Finds the places in a text where a phrase may start; None for everywhere.
        keys: How many characters choose the phrases to try: a first cut, and finer ones.
        prefixes: Finds words that start with a particle written together with the word that follows.
        negation: Finds words that negate, None where the file names none.
        adversative: Finds "but", None where the file names none.
    """

    code: str
    anchored: tuple[Entry, ...]
    phrases: tuple[Phrase, ...]
    places: re.Pattern[str] | None
    keys: tuple[int, int, int]
    prefixes: re.Pattern[str] | None
    negation: re.Pattern[str] | None = None
    adversative: re.Pattern[str] | None = None
    _cut: dict[str, tuple[Phrase, ...]] = field(default_factory=dict[str, "tuple[Phrase, ...]"], repr=False)
    _starting: dict[str, Started] = field(default_factory=dict[str, "Started"], repr=False)
    _dead: set[str] = field(default_factory=lambda: set(" \n\t"), repr=False)

    def find(self, text: str, *, repeats: int = 2) -> dict[str, list[Hit]]:
        """Find the phrase groups of a text.

        Args:
            text: Folded text.
            repeats: Different wordings of one group to find at most.

        Returns:
            Hits by group, in order of position.
        """
        places = self._places(text)
        masked = _mask(text, places)
        if masked is not None:
            text, places = masked, self._places(masked)
        found: dict[str, list[Hit]] = {}
        for group, pattern in self.anchored:
            match = pattern.match(text)
            if match and group not in found:
                found[group] = [Hit(group, 0, match.end())]
        for start, (entries, _) in places:
            for group, pattern in entries:
                hits = found.get(group)
                if hits is not None and (len(hits) >= repeats or start < hits[-1].end):
                    continue
                match = pattern.match(text, start)
                if match is None or match.end() == start:
                    continue
                if hits is None:
                    found[group] = [Hit(group, start, match.end())]
                elif all(text[hit.start : hit.end] != match.group() for hit in hits):
                    hits.append(Hit(group, start, match.end()))
        return found

    def _places(self, text: str) -> list[tuple[int, Started]]:
        """Where phrases could start, with these phrases."""
        if self.places is None:
            dead = self._dead
            starts = [start for start, character in enumerate(text) if character not in dead]
        else:
            starts = [match.start() for match in self.places.finditer(text)]
        if self.prefixes is not None:
            starts = sorted({*starts, *(match.end() for match in self.prefixes.finditer(text))})
        known, width = self._starting, self.keys[-1]
        found: list[tuple[int, Started]] = []
        for start in starts:
            key = text[start : start + width]
            started = known.get(key)
            if started is None:
                started = self._learn(key)
            if started is not _NOTHING:
                found.append((start, started))
        return found

    def _learn(self, key: str) -> Started:
        """The phrases that could start with these characters, remembered."""
        if len(self._starting) >= _KEYS:
            self._starting.clear()
            self._cut.clear()
            self._dead.intersection_update(" \n\t")
        possible = self.phrases
        for width in self.keys[:-1]:
            first = key[:width]
            if first not in self._cut:
                self._cut[first] = _starting_so(possible, first)
                if len(first) == 1 and not self._cut[first]:
                    self._dead.add(first)
            possible = self._cut[first]
        possible = _starting_so(possible, key)
        entries = tuple((group, exact) for group, exact, _ in possible if group != _BENIGN)
        benign = tuple(exact for group, exact, _ in possible if group == _BENIGN)
        self._starting[key] = started = (entries, benign) if possible else _NOTHING
        return started


def _starting_so(phrases: tuple[Phrase, ...], first: str) -> tuple[Phrase, ...]:
    return tuple(phrase for phrase in phrases if phrase[2].match(first, partial=True))


def _mask(text: str, places: Sequence[tuple[int, Started]]) -> str | None:
    """The text without the wordings that look like a refusal and are none; None where there are none."""
    end = 0
    pieces: list[str] = []
    for start, (_, benign) in places:
        if start < end:
            continue
        for pattern in benign:
            if (match := pattern.match(text, start)) is not None and match.end() > start:
                pieces += text[end:start], "\x01" * (match.end() - start)
                end = match.end()
                break
    return "".join([*pieces, text[end:]]) if pieces else None


def compile_lexicon(language: Language, *, groups: Sequence[PhraseGroup] = PHRASE_GROUPS) -> Lexicon:
    """Compile one language's phrases.

    Args:
        language: The language.
        groups: The groups to compile.

    Returns:
        Its lexicon.

    Raises:
        DataError: A phrase is no valid regular expression; the message names language, group and phrase.
    """
    anchored: list[Entry] = []
    free: list[Phrase] = []
    for group in groups:
        for phrase in language.phrases.group(group):
            expression = _expression(phrase, language, group)
            if phrase.startswith("^") and group != _BENIGN:
                anchored.append((group, re.compile(expression)))
            else:
                free.append((group, re.compile(expression), regex.compile(expression)))
    particles = "|".join(re.escape(fold_pattern(prefix)) for prefix in language.word_prefixes)
    return Lexicon(
        code=language.code,
        anchored=tuple(anchored),
        phrases=tuple(free),
        places=None if language.match_inside_words else re.compile(r"(?<!\w)(?=\S)"),
        keys=(1, 2, 4) if language.match_inside_words else (2, 4, 7),
        prefixes=re.compile(rf"(?<!\w)(?:{particles})(?=\w)") if particles else None,
        negation=_words(language.negations, language, "negations"),
        adversative=_words(language.adversatives, language, "adversatives"),
    )


def _words(words: Sequence[str], language: Language, field_name: str) -> re.Pattern[str] | None:
    if not words:
        return None
    joined = "|".join(map(fold_pattern, words))
    expression = joined if not language.spaced or language.match_inside_words else rf"(?<!\w)(?:{joined})(?!\w)"
    try:
        return re.compile(expression)
    except re.error as error:
        raise DataError(f"language {language.code!r}, {field_name}: {joined!r} is no valid pattern: {error}") from error


_LOADED: dict[str, tuple[Mapping[str, Language], Lexicon]] = {}


def load_lexicon(code: str) -> Lexicon:
    """The lexicon of a loaded language, compiled once per process and language file."""
    known = load_languages()
    found = _LOADED.get(code)
    if found is None or found[0] is not known:
        found = _LOADED[code] = known, _compiled(known[code])
    return found[1]


def load_plain_refusals(code: str) -> Lexicon:
    """The phrases of a loaded language that refuse in so many words, to search long text for; compiled once."""
    return _compiled(load_languages()[code], ("inability", "decline", "benign"))


@lru_cache(maxsize=128)
def _compiled(language: Language, groups: tuple[PhraseGroup, ...] = PHRASE_GROUPS) -> Lexicon:
    return compile_lexicon(language, groups=groups)


def _expression(phrase: str, language: Language, group: str) -> str:
    folded = fold_pattern(phrase)
    if folded.startswith("^") and not folded.startswith(r"^(\W"):
        folded = r"^\W*" + folded[1:]
    folded = _respell(folded, language.spellings)
    body = folded.replace("~~", _GAP % 60).replace("~", _GAP % 12)
    # " ?" is a space that may be missing, not the shortest run of spaces.
    body = _CLASS_OR_SPACE.sub(lambda match: match.group(1) or (r"\s*" if match.group(2) else r"\s+"), body)
    # A capturing group costs time at every attempt and nobody reads it.
    expression = "(?:" + _CAPTURING.sub("(?:", body) + ")"
    try:
        re.compile(expression)
        regex.compile(expression)
    except (re.error, regex.error) as error:
        message = f"language {language.code!r}, phrases.{group}: {phrase!r} is no valid pattern: {error}"
        raise DataError(message) from error
    return expression


def _respell(phrase: str, spellings: tuple[tuple[str, str], ...]) -> str:
    """Put the patterns of all spellings in the place of the pieces they spell, longest piece first.

    A piece whose pattern ends with the word ("pas", also written "pa") is none at the beginning of a longer word ("passer").
    """
    if not spellings:
        return phrase
    patterns = {fold_pattern(piece): f"(?:{fold_pattern(pattern)})" for piece, pattern in spellings}
    whole = {fold_pattern(piece) for piece, pattern in spellings if pattern.endswith(r"\b")}
    ordered = sorted(patterns, key=len, reverse=True)
    pieces = "|".join(re.escape(piece) + (r"(?!\w)" if piece in whole else "") for piece in ordered)
    return re.sub(pieces, lambda match: patterns[match.group()], phrase)
