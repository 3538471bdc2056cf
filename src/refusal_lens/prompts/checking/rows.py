"""Faults inside one cell: empty, copied, untranslated, misaligned, odd in length, language or encoding.

Length ratio: log(characters of the translation / characters of the original); a row is an outlier when it is farther
from its cell's median than five times the (normal-consistent) median absolute deviation and a factor of two.

Language: py3langid, its probabilities among the languages that can occur. A prompt counts as being in the wrong language
only when another language has more than 0.5 and its own less than 0.1, and it has at least 12 letters: short or mixed
prompts (names, code, quotations) are left in peace. Where three quarters of the letters are Latin, the identifier sees
those alone, since one word of a rarer script outweighs a sentence; links are left out. Measured: docs/data.md.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from refusal_lens.languages import identified_as, language_probabilities
from refusal_lens.prompts.checking.results import CellView, Problem, some_rows
from refusal_lens.prompts.loading.alignment import PARALLEL, displaced_rows, length_correlation
from refusal_lens.prompts.loading.cell import ENGLISH, normalised
from refusal_lens.prompts.loading.texts import row_fault

_ENCODING: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("replacement characters (U+FFFD)", re.compile("\ufffd")),
    ("lone surrogates", re.compile("[\ud800-\udfff]")),
    (
        "text decoded twice",
        re.compile("[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac[\u0153\u009d\u2122\u02dc\u201c\u201d\u00a6]"),
    ),
    ("HTML entities", re.compile(r"&(#\d{1,6}|#x[0-9a-fA-F]{1,5}|quot|amp|lt|gt|apos|nbsp);")),
    ("zero-width spaces", re.compile("[\u200b\u2060\ufeff]")),
    ("direction overrides", re.compile("[\u202a-\u202e\u2066-\u2069]")),
    ("control characters", re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")),
    ("private-use characters", re.compile("[\ue000-\uf8ff]")),
)
_OUTLIER_DEVIATIONS = 5.0
_OUTLIER_FACTOR = 2.0
_MIN_DEVIATION = 0.1
_OTHER_CONFIDENCE = 0.5
_OWN_CONFIDENCE = 0.1
_MIN_LETTERS = 12
_MOSTLY_LATIN = 0.75
_LINK = re.compile(r"\w+://[!-~]+")
_NOT_LATIN = re.compile("[^\u0000-\u02af\u0300-\u036f\u1e00-\u1eff]")


def check_view(view: CellView, identifier: LanguageIdentifier | None) -> list[Problem]:
    """All faults inside one cell."""
    checks: tuple[Callable[[CellView], list[Problem]], ...] = (
        _rows,
        _counts,
        _copies,
        _alignment,
        _untranslated,
        _lengths,
        _encoding,
    )
    found = [problem for check in checks for problem in check(view)]
    return found + (_language(view, identifier) if identifier is not None else [])


def copied_rows(view: CellView) -> tuple[int, ...]:
    """Rows whose text repeats an earlier row's, from 1."""
    return tuple(row for rows in _grouped(view.texts).values() for row in rows[1:])


def _grouped(texts: list[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts, start=1):
        if text.strip():
            groups[normalised(text)].append(row)
    return groups


def _disagreeing(texts: list[str], others: list[str]) -> tuple[int, ...]:
    """Rows with equal texts but different others, from 1."""
    groups = [rows for rows in _grouped(texts).values() if len({others[row - 1] for row in rows} - {""}) > 1]
    return tuple(sorted(row for rows in groups for row in rows))


def _rows(view: CellView) -> list[Problem]:
    found: list[Problem] = []
    if view.broken is not None:
        found.append(Problem("broken-file", view.where, view.broken))
    if view.failed:
        found.append(Problem("failed-translation", view.where, f"marked failed: {some_rows(view.failed)}", view.failed))
    broken = tuple(n for n, row in enumerate(view.rows, start=1) if row.fault is not None)
    if broken:
        found.append(
            Problem("broken-row", view.where, f"{some_rows(broken)}: {view.rows[broken[0] - 1].fault}", broken)
        )
    for kind in ("is null, not a text", "is empty", "has no visible character"):
        rows = tuple(
            n
            for n, row in enumerate(view.rows, 1)
            if row_fault(row.text) == kind and n not in broken and n not in view.failed
        )
        if rows:
            found.append(Problem("empty", view.where, f"{some_rows(rows)}: the prompt {kind}", rows))
    others = {n: fault for n, row in enumerate(view.rows, 1) if (fault := row_fault(row.text)) and n not in broken}
    odd = tuple(
        n
        for n, fault in others.items()
        if not fault.startswith(("is null", "is empty", "has no visible", "has a lone"))
    )
    if odd:
        found.append(Problem("broken-row", view.where, f"{some_rows(odd)}: the prompt {others[odd[0]]}", odd))
    return found


def _counts(view: CellView) -> list[Problem]:
    if view.english_rows is None or view.broken is not None or view.english_rows == len(view.rows):
        return []
    detail = f"{len(view.rows)} rows, the English file has {view.english_rows}: rows cannot be paired by position"
    return [Problem("row-count", view.where, detail)]


def _copies(view: CellView) -> list[Problem]:
    found: list[Problem] = []
    copies = copied_rows(view)
    if copies:
        found.append(
            Problem("duplicate", view.where, f"{len(copies)} repeat an earlier prompt: {some_rows(copies)}", copies)
        )
    if not any(view.originals) or view.cell.language == ENGLISH:
        return found
    keys = [normalised(original) if original else "" for original in view.originals]
    same = _disagreeing(view.texts, keys)
    if same:
        found.append(
            Problem("same-translation", view.where, f"{some_rows(same)}: different originals, the same text", same)
        )
    different = _disagreeing(keys, [normalised(text) for text in view.texts])
    if different:
        detail = f"{some_rows(different)}: copies of one original with different texts"
        found.append(Problem("different-translation", view.where, detail, different))
    return found


def _alignment(view: CellView) -> list[Problem]:
    if view.cell.language == ENGLISH or len(view.originals) != len(view.rows) or not any(view.originals):
        return []
    r = length_correlation(view.texts, view.originals)
    stretches = displaced_rows(view.texts, view.originals)
    if r is not None and r < PARALLEL and sum(part.last - part.first + 1 for part in stretches) < len(view.rows) // 2:
        detail = f"lengths do not follow the English rows (r = {r:.2f}): other prompts, or another order"
        return [Problem("misaligned", view.where, detail, tuple(range(1, len(view.rows) + 1)))]
    found: list[Problem] = []
    for part in stretches:
        detail = f"rows {part.first} to {part.last} (about) fit the English rows {part.shift:+d} further"
        found.append(Problem("misaligned", view.where, detail, tuple(range(part.first, part.last + 1))))
    return found


def _untranslated(view: CellView) -> list[Problem]:
    if view.cell.language == ENGLISH:
        return []
    rows = tuple(
        n for n, (text, original) in enumerate(zip(view.texts, view.originals, strict=False), start=1)
        if original and text and normalised(text) == normalised(original)
    )  # fmt: skip
    return (
        [Problem("untranslated", view.where, f"{some_rows(rows)}: equal to the English original", rows)] if rows else []
    )


def _lengths(view: CellView) -> list[Problem]:
    lengths = [(len(text), len(original or "")) for text, original in zip(view.texts, view.originals, strict=False)]
    pairs = [(row, text, original) for row, (text, original) in enumerate(lengths, start=1) if text and original]
    aligned = length_correlation(view.texts, view.originals) if len(view.texts) == len(view.originals) else None
    if view.cell.language == ENGLISH or len(pairs) < 8 or (aligned is not None and aligned < PARALLEL):
        return []
    ratios = np.log([text / original for _, text, original in pairs])
    middle = float(np.median(ratios))
    spread = max(1.4826 * float(np.median(np.abs(ratios - middle))), _MIN_DEVIATION)
    far = np.abs(ratios - middle) > max(_OUTLIER_DEVIATIONS * spread, float(np.log(_OUTLIER_FACTOR)))
    rows = tuple(pairs[index][0] for index in np.flatnonzero(far).tolist())
    if not rows:
        return []
    factors = ", ".join(f"{np.exp(ratios[index] - middle):.2f}" for index in np.flatnonzero(far).tolist()[:8])
    return [Problem("length-ratio", view.where, f"{some_rows(rows)}: {factors} times the usual length", rows)]


def _encoding(view: CellView) -> list[Problem]:
    found: list[Problem] = []
    for name, pattern in _ENCODING:
        rows = tuple(n for n, text in enumerate(view.raw_texts, start=1) if pattern.search(text))
        if rows:
            found.append(Problem("encoding", view.where, f"{name} in {some_rows(rows)}", rows))
    return found


def _language(view: CellView, identifier: LanguageIdentifier) -> list[Problem]:
    if not view.rows or not identifier.knows(view.cell.language):
        return []
    numbered = enumerate(zip(view.texts, view.rows, strict=True), start=1)
    usable = [(n, text) for n, (text, row) in numbered if row_fault(row.text) is None]
    wrong = identifier.wrong([text for _, text in usable], view.cell.language) if usable else []
    if not wrong:
        return []
    rows = tuple(usable[item.row - 1][0] for item in wrong)
    named = ", ".join(sorted({item.language for item in wrong}))
    return [Problem("wrong-language", view.where, f"{some_rows(rows)}: in {named}, not {view.cell.language}", rows)]


@dataclass(frozen=True, slots=True)
class WrongLanguage:
    """A prompt that is in another language than its file says."""

    row: int
    language: str
    confidence: float


class LanguageIdentifier:
    """Identifies among a fixed set of languages."""

    def __init__(self, languages: Iterable[str]) -> None:
        """Remember the languages that can be told."""
        self._codes = {code: own for code in languages if (own := identified_as(code)) is not None}

    def knows(self, language: str) -> bool:
        """Whether prompts of this language can be judged."""
        return language in self._codes and len(set(self._codes.values())) > 1

    def wrong(self, texts: Sequence[str], language: str) -> list[WrongLanguage]:
        """Find the texts that are in another language."""
        own = self._codes[language]
        possible = frozenset(self._codes.values())
        found: list[WrongLanguage] = []
        for row, text in enumerate(texts, start=1):
            read = _mostly_latin(_LINK.sub(" ", text))
            if _letters(read) < _MIN_LETTERS:
                continue
            likely = language_probabilities(read, possible)
            best = max(likely, key=lambda code: likely[code])
            if likely[best] > _OTHER_CONFIDENCE and likely[own] < _OWN_CONFIDENCE:
                found.append(WrongLanguage(row, best, likely[best]))
        return found


def _mostly_latin(text: str) -> str:
    """The text, without letters of other scripts where they are few."""
    latin = text if text.isascii() else _NOT_LATIN.sub(" ", text)
    return latin if _letters(latin) >= _MOSTLY_LATIN * _letters(text) else text


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))
