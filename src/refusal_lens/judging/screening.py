"""What must be known of an answer before it is judged: empty, without words, degenerate.

A repetitive answer ("the the the ...") says neither yes nor no. Repetition is measured by compression: below a ratio of
0.2 of compressed to raw bytes, over at least 60 characters, a text repeats itself (ordinary prose of any of the 14
languages stays above 0.3). The start of the answer is what counts, since it decides: a refusal that later runs into a
loop is still a refusal.
"""

from __future__ import annotations

import zlib

DEGENERATE_RATIO = 0.2
_WINDOW = 600
_SHORTEST = 60
_BYTES_A_WORD = 2


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
    if repetitive(bare):
        return "degenerate"
    return None


def repetitive(text: str) -> bool:
    """Whether the start of a text repeats itself."""
    window = text[:_WINDOW]
    if len(window) < _SHORTEST:
        return False
    raw = window.encode("utf-8", errors="replace")
    if _BYTES_A_WORD * len(set(window.split())) > DEGENERATE_RATIO * len(raw):
        return False  # so many different words cannot be compressed that far; saves compressing most answers
    return len(zlib.compress(raw, 1)) < DEGENERATE_RATIO * len(raw)
