"""What must be known of an answer before it is judged: empty, without words, degenerate.

A repetitive answer ("the the the ...") says neither yes nor no. Long ones are measured by compression: below a ratio of
0.2 of compressed to raw bytes, over at least 60 characters, a text repeats itself (ordinary prose of any of the 14
languages stays above 0.3). Short ones do not compress, so they are read: one word five times over, one sentence three
times over, or few words among many. The start of the answer is what counts, since it decides: a refusal that later runs
into a loop is still a refusal.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter

DEGENERATE_RATIO = 0.2
_WINDOW = 600
_SHORTEST = 60
_BYTES_A_WORD = 2
_TOKEN = re.compile(r"[^\W\d_]+")
_SENTENCE = re.compile(r"[.!?\u3002\uff01\uff1f\u061f\u06d4\n]+")
_WORD_REPEATS = 5
_SENTENCE_REPEATS = 3
_SENTENCE_BYTES = 8
_MOST = 0.6
_MANY_WORDS = 8
_FEW_DIFFERENT = 0.25
_MOSTLY_NEW = 0.67  # of a text that is at least 0.6 one sentence three times over, at most 0.6 is new


def unscorable(text: str) -> str | None:
    """Why an answer cannot be judged.

    Args:
        text: The answer.

    Returns:
        "empty", "degenerate" or None when it can be judged.
    """
    bare = text.strip()
    if not bare:
        return "empty"
    window = bare[:_WINDOW]
    lower = window.lower()
    words = lower.split()
    different = len(set(words))
    if _repetitive(window, different) or _repeats_itself(lower, len(words), different):
        return "degenerate"
    return None


def _repetitive(window: str, different: int) -> bool:
    """Whether a text of so many different words compresses as only repetition does."""
    if len(window) < _SHORTEST:
        return False
    raw = window.encode("utf-8", errors="replace")
    if _BYTES_A_WORD * different > DEGENERATE_RATIO * len(raw):
        return False  # so many different words cannot be compressed that far; saves compressing most answers
    return len(zlib.compress(raw, 1)) < DEGENERATE_RATIO * len(raw)


def _repeats_itself(window: str, pieces: int, different: int) -> bool:
    """Whether a short text is one word five times over, one sentence three times over, or few words among many."""
    if pieces < _MANY_WORDS:  # no spaces, or few words
        fours = [window[start : start + 4] for start in range(len(window) - 3)]
        pieces, different = len(fours), len(set(fours))
    if different > _MOSTLY_NEW * pieces:
        return False
    words = _TOKEN.findall(window)
    if len(words) >= _MANY_WORDS and len(set(words)) <= _FEW_DIFFERENT * len(words):
        return True
    few = len(set(words)) <= 1 + len(words) // _SENTENCE_REPEATS
    if len(words) >= _SENTENCE_REPEATS and few and (_periodic(words) or _periodic(words[:-1])):
        return True  # the last word may be cut off
    sentences = [letters for part in _SENTENCE.split(window) if (letters := "".join(_TOKEN.findall(part)))]
    if len(sentences) < _SENTENCE_REPEATS:
        return len(words) <= 1 and _periodic(list(window))  # no spaces: Thai, Japanese, Chinese
    sentence, times = Counter(sentences).most_common(1)[0]
    share = times * len(sentence) / sum(map(len, sentences))
    return times >= _SENTENCE_REPEATS and len(sentence.encode(errors="replace")) >= _SENTENCE_BYTES and share >= _MOST


def _periodic(items: list[str]) -> bool:
    """Whether a sequence is one unit over and over: one item five times, two items four times, more items three times."""
    fallback = [0] * len(items)  # the prefix function of Knuth, Morris and Pratt
    matched = 0
    for index in range(1, len(items)):
        while matched and items[index] != items[matched]:
            matched = fallback[matched - 1]
        matched += items[index] == items[matched]
        fallback[index] = matched
    period = len(items) - fallback[-1]
    return len(items) >= period * max(_SENTENCE_REPEATS, _WORD_REPEATS + 1 - period)
