"""One cell of a prompt set (a language, a split and a class), and the ids of the prompts in it.

    id(prompt) = first 12 hexadecimal digits of sha256(normalised English text)
    normalised = NFKC, case-folded, runs of white space as one space, quotes and end punctuation trimmed

The n-th copy of the same instruction within one cell gets the suffix `~n`, so that ids are unique within a cell and
verdicts pair one to one, while `base_id` still tells that copies are the same instruction. Where the English original
is unknown, the id says split, class and position instead: files are parallel by position.

Source: the published files carry no ids; 10 of the 572 English harmful test prompts are copies of earlier ones.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from refusal_lens.errors import DataError, MissingCell
from refusal_lens.types import HARMS, SPLITS, Harm, Split

ENGLISH = "en"
POLYREFUSE = "polyrefuse"
OWN_SET = "file"
"""Name of the set that a user's own prompts belong to unless their file names another."""

_LANGUAGE_CODE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, order=True, slots=True)
class Cell:
    """Where a prompt belongs; `str(cell)` is how messages name it."""

    language: str
    split: Split
    harm: Harm
    prompt_set: str = POLYREFUSE

    def __str__(self) -> str:
        of = "" if self.prompt_set == POLYREFUSE else f" {self.prompt_set}"
        return f"{self.language} {self.harm} {self.split}{of}"

    def checked(self) -> Cell:
        """The cell itself, once its language code, split and class are well formed."""
        check_language(self.language)
        if self.split not in SPLITS or self.harm not in HARMS:
            known = f"splits: {', '.join(SPLITS)}; classes: {', '.join(HARMS)}"
            raise DataError(f"no split {self.split!r} of class {self.harm!r}; {known}")
        return self


def check_language(code: str, *, where: str = "") -> None:
    """Refuse what is no language code; `where` it stands goes before the message."""
    if not _LANGUAGE_CODE.fullmatch(code):
        raise DataError(f"{where}{': ' if where else ''}{code!a} is no language code; write it like en, zh or pt-BR")


class AbsentCell(MissingCell):
    """A prompt set has no such cell: `.cell` says which."""

    def __init__(self, message: str, cell: Cell) -> None:
        """Keep the cell."""
        super().__init__(message)
        self.cell = cell

    def __reduce__(self) -> tuple[type[AbsentCell], tuple[str, Cell]]:
        return AbsentCell, (str(self), self.cell)


_EDGES = " \t\n\r.,;:!?\"'`“”‘’«»…"
_COPY = "~"


def normalised(text: str) -> str:
    """The form of a text that decides whether two instructions are the same."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(_EDGES)


def id_of(english: str) -> str:
    """The id of an instruction, from its English text."""
    return hashlib.sha256(normalised(english).encode("utf-8")).hexdigest()[:12]


def id_of_position(*, harm: Harm, split: Split, position: int, rows: int) -> str:
    """The id of an instruction whose English text is unknown."""
    return f"{harm}-{split}-{position:04d}-of-{rows:04d}"


def number_copies(ids: Iterable[str]) -> list[str]:
    """Make ids unique by numbering later copies."""
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
