"""Prompt ids: the same for every translation of an instruction, different for different instructions.

    id(prompt) = first 12 hexadecimal digits of sha256(normalised English text)
    normalised = NFKC, case-folded, runs of white space as one space, quotes and end punctuation trimmed

The n-th copy of the same instruction within one cell gets the suffix `~n`, so that ids are unique within a cell and
verdicts pair one to one, while `base_id` still tells that copies are the same instruction. Where the English original
is unknown, the id says split, class and position instead: files are parallel by position.

Source: the published files carry no ids; 10 of the 572 English harmful test prompts are copies of earlier ones.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable

from refusal_lens.types import Harm, Split

_EDGES = " \t\n\r.,;:!?\"'`“”‘’«»…"
_COPY = "~"


def normalised(text: str) -> str:
    """The form of a text that decides whether two instructions are the same."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(_EDGES)


def id_of(english: str) -> str:
    """The id of an instruction, from its English text.

    Args:
        english: The original; must be encodable as UTF-8.

    Returns:
        12 hexadecimal digits.
    """
    return hashlib.sha256(normalised(english).encode("utf-8")).hexdigest()[:12]


def id_of_position(*, harm: Harm, split: Split, position: int, rows: int) -> str:
    """The id of an instruction whose English text is unknown.

    Args:
        harm: Class of its file.
        split: Split of its file.
        position: Row, from 0.
        rows: Rows of the file: files of different lengths are not parallel and must not share ids.

    Returns:
        For example "harmful-train-0007-of-0260".
    """
    return f"{harm}-{split}-{position:04d}-of-{rows:04d}"


def number_copies(ids: Iterable[str]) -> list[str]:
    """Make ids unique by numbering later copies.

    Args:
        ids: Ids in file order.

    Returns:
        The ids; the second copy ends in "~2", the third in "~3".
    """
    used: set[str] = set()
    copies: Counter[str] = Counter()
    numbered: list[str] = []
    for prompt_id in ids:
        copies[prompt_id] += 1
        unique = prompt_id if copies[prompt_id] == 1 else f"{prompt_id}{_COPY}{copies[prompt_id]}"
        while unique in used:
            copies[prompt_id] += 1
            unique = f"{prompt_id}{_COPY}{copies[prompt_id]}"
        used.add(unique)
        numbered.append(unique)
    return numbered


def base_id(prompt_id: str) -> str:
    """The id without its copy number: equal for copies of the same instruction."""
    stem, mark, number = prompt_id.rpartition(_COPY)
    return stem if mark and number.isdigit() else prompt_id
