"""How prompts end, where that alone would tell the classes apart: end marks drawn at random from both classes together.

In PolyRefuse most harmless prompts end with a full stop and most harmful ones with none. The instruction's last token is then
the mark itself: a detector there has AUROC 1.0 on validation and 0.8 on prompts from elsewhere. Where the marks of the two
classes differ by more than FAR (total variation distance) labelled prompts are read with marks drawn from all of them, so
that nothing can be learnt from the mark; thresholds are still made on prompts as they are. No torch here.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

FAR = 0.2
_MARK = re.compile(r"[\s.?!。？！؟…:;,\"”»」』)]+$")


def mark(text: str) -> str:
    """What a text ends with beyond its words; empty for nothing."""
    found = _MARK.search(text)
    return found.group(0).strip() if found else ""


def distance(harmful: Sequence[str], harmless: Sequence[str]) -> float:
    """Total variation distance between the end marks of two classes, in [0, 1]."""
    counts = [Counter(map(mark, texts)) for texts in (harmful, harmless)]
    marks = {one for count in counts for one in count}
    return sum(abs(counts[0][one] / len(harmful) - counts[1][one] / len(harmless)) for one in marks) / 2


def mixed(texts: Sequence[str], pool: Sequence[str]) -> list[str]:
    """Texts with end marks drawn, by the text alone, from those of a pool.

    Args:
        texts: The texts.
        pool: Texts of both classes.

    Returns:
        In order; a text of nothing but marks stays as it is.
    """
    marks = [mark(text) for text in pool]
    return [_with(text, marks[_draw(text) % len(marks)]) for text in texts]


def _with(text: str, new: str) -> str:
    bare = _MARK.sub("", text)
    return f"{bare}{new}" if bare else text


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(_MARK.sub("", text).encode("utf-8", "surrogatepass")).digest()[:8], "big")
