"""One cell of a prompt set: a language, a split and a class."""

from __future__ import annotations

import re
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
        """The cell itself, once its language code, split and class are well formed.

        Returns:
            This cell.

        Raises:
            DataError: Otherwise; a code that is no code could name a path outside the data.
        """
        check_language(self.language)
        if self.split not in SPLITS or self.harm not in HARMS:
            known = f"splits: {', '.join(SPLITS)}; classes: {', '.join(HARMS)}"
            raise DataError(f"no split {self.split!r} of class {self.harm!r}; {known}")
        return self


def check_language(code: str) -> None:
    """Refuse what is no language code.

    Args:
        code: What should be a BCP-47 code.

    Raises:
        DataError: When it is not shaped like one.
    """
    if not _LANGUAGE_CODE.fullmatch(code):
        raise DataError(f"{code!a} is no language code; write it like en, zh or pt-BR")


class AbsentCell(MissingCell):
    """A prompt set has no such cell: `.cell` says which."""

    def __init__(self, message: str, cell: Cell) -> None:
        """Keep the cell.

        Args:
            message: What is absent, and where it was looked for.
            cell: Which cell.
        """
        super().__init__(message)
        self.cell = cell

    def __reduce__(self) -> tuple[type[AbsentCell], tuple[str, Cell]]:
        return AbsentCell, (str(self), self.cell)
