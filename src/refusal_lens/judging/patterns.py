r"""Compile the phrases of a language file into an index that finds all groups of an answer in one walk.

A phrase is a Python regular expression matched against folded text (lower case, without accents), with three
short-hands: a space matches any white space, `~` a gap of up to 12 characters and `~~` one of up to 60 inside one
sentence. In languages that separate words, a phrase starts at the start of a word and may end inside one, so that a stem
covers its inflections; `word_prefixes` names particles that may be written together with the word that follows.
A phrase that starts with `^` matches at the start of the lead only, quotation marks and dashes apart. Pieces named in
`spellings` ("n't", "nicht") match all their spellings, wherever they stand in a phrase.

Why an index: a plain alternation tries every phrase at every character. Which first characters a phrase can start with
is found once, by partial matching, so that at most places in a text nothing is tried at all; where something may start,
all its phrases are tried as one pattern before the groups are told apart.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import regex

from refusal_lens.errors import DataError
from refusal_lens.judging.folding import fold_pattern
from refusal_lens.languages import PHRASE_GROUPS, Language, PhraseGroup, load_languages

_GAP = r"[^.!?。؟\n]{0,%d}?"
_CAPTURING = re.compile(r"(?<!\\)\((?!\?)")
_CLASS_OR_SPACE = re.compile(r"(\\.|\[\^?\]?[^\]]*\])| (\??)")
_ANY_LETTER = "\u02ad"  # a letter no language file uses: a phrase that may start with it may start with anything
_SMALL_ALPHABET = 160

Entry = tuple[str, "re.Pattern[str]"]
Start = tuple["re.Pattern[str]", tuple[Entry, ...]]


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
        by_start: By the one or two characters they can start with: all patterns as one, and each group's.
        starts: Finds the places in a text where a phrase could start.
        benign: Wordings to take out before matching, None where the file has none.
        prefixes: Finds words that start with a particle written together with the word that follows.
    """

    code: str
    anchored: tuple[Entry, ...]
    by_start: Mapping[str, Start]
    starts: re.Pattern[str]
    benign: re.Pattern[str] | None
    prefixes: re.Pattern[str] | None

    def find(self, text: str, *, repeats: int = 2) -> dict[str, list[Hit]]:
        """Find the phrase groups of a text.

        Args:
            text: Folded text.
            repeats: Different wordings of one group to find at most.

        Returns:
            Hits by group, in order of position.
        """
        if self.benign is not None:
            text = self.benign.sub(lambda match: "\x01" * len(match.group()), text)
        found: dict[str, list[Hit]] = {}
        for group, pattern in self.anchored:
            match = pattern.match(text)
            if match and group not in found:
                found[group] = [Hit(group, 0, match.end())]
        by_start = self.by_start
        for start in self._places(text):
            candidates = by_start.get(text[start : start + 2]) or by_start.get(text[start])
            if candidates is None or candidates[0].match(text, start) is None:
                continue
            for group, pattern in candidates[1]:
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

    def _places(self, text: str) -> list[int]:
        places = [match.start() for match in self.starts.finditer(text)]
        if self.prefixes is not None:
            places = sorted({*places, *(match.end() for match in self.prefixes.finditer(text))})
        return places


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
    free: list[tuple[str, str]] = []
    benign: list[str] = []
    for group in groups:
        for phrase in language.phrases.group(group):
            expression = _expression(phrase, language, group)
            if group == "benign":
                benign.append(expression)
            elif phrase.startswith("^"):
                anchored.append((group, re.compile(expression)))
            else:
                free.append((group, expression))
    boundary = "" if language.match_inside_words else r"(?<!\w)"
    by_start = _index(free)
    particles = "|".join(re.escape(fold_pattern(prefix)) for prefix in language.word_prefixes)
    return Lexicon(
        code=language.code,
        anchored=tuple(anchored),
        by_start=by_start,
        starts=re.compile(f"{boundary}(?={_any_of(by_start)})"),
        benign=re.compile(f"{boundary}(?:{'|'.join(benign)})") if benign else None,
        prefixes=re.compile(rf"(?<!\w)(?:{particles})(?=\w)") if particles else None,
    )


def load_lexicon(code: str) -> Lexicon:
    """The lexicon of a loaded language, compiled once per process and language file."""
    return _compiled(load_languages()[code])


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
    """Put the patterns of all spellings in the place of the pieces they spell, longest piece first."""
    if not spellings:
        return phrase
    patterns = {fold_pattern(piece): f"(?:{fold_pattern(pattern)})" for piece, pattern in spellings}
    pieces = "|".join(re.escape(piece) for piece in sorted(patterns, key=len, reverse=True))
    return re.sub(pieces, lambda match: patterns[match.group()], phrase)


def _index(phrases: list[tuple[str, str]]) -> dict[str, Start]:
    """Group phrases by what they can start with: two characters, or one where the alphabet is large."""
    alphabet = {character for _, expression in phrases for character in expression}
    alphabet |= set("0123456789 '\"-.,")
    two = len(alphabet) <= _SMALL_ALPHABET
    members: defaultdict[str, list[int]] = defaultdict(list)
    for number, (_, expression) in enumerate(phrases):
        pattern = regex.compile(expression)
        for first in alphabet:
            if not pattern.fullmatch(first, partial=True):
                continue
            if not two:
                members[first].append(number)
                continue
            for second in alphabet:
                if pattern.fullmatch(first + second, partial=True):
                    members[first + second].append(number)
            if pattern.fullmatch(first + _ANY_LETTER, partial=True) or pattern.fullmatch(first):
                members[first].append(number)
    return {start: _start([phrases[number] for number in numbers]) for start, numbers in members.items()}


def _any_of(starts: Iterable[str]) -> str:
    """One expression for all starts: a class of lone characters, and per first character a class of seconds."""
    seconds: defaultdict[str, set[str]] = defaultdict(set)
    for start in starts:
        seconds[start[0]].add(start[1:])
    alone = "".join(re.escape(first) for first, rest in sorted(seconds.items()) if "" in rest)
    parts = [f"[{alone}]"] if alone else []
    parts += [
        f"{re.escape(first)}[{''.join(re.escape(second) for second in sorted(rest))}]"
        for first, rest in sorted(seconds.items())
        if "" not in rest
    ]
    return "|".join(parts) or r"(?!)"


def _start(phrases: list[tuple[str, str]]) -> Start:
    by_group: dict[str, list[str]] = {}
    for group, expression in phrases:
        by_group.setdefault(group, []).append(expression)
    entries = tuple((group, _alternation(tuple(expressions))) for group, expressions in by_group.items())
    return _alternation(tuple(expression for _, expression in phrases)), entries


@lru_cache(maxsize=4096)
def _alternation(expressions: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(expressions))
