"""What `data check` reports: cells with counts, problems with a code, a place and a detail."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from refusal_lens.prompts.loading.cell import Cell
from refusal_lens.prompts.loading.cells import Row
from refusal_lens.prompts.loading.texts import row_fault
from refusal_lens.types import Harm, Split

Code: TypeAlias = Literal[
    "missing-language",  # a published language has no file at all
    "missing-cell",  # a language lacks one split of one class
    "broken-file",  # a file is no readable list of prompts
    "broken-row",  # a row lacks a field or has one of the wrong kind
    "empty",  # a prompt is null, empty or invisible
    "row-count",  # a file has another number of rows than the English one
    "duplicate",  # the same prompt more than once in a cell
    "same-translation",  # different originals, one translation
    "different-translation",  # copies of one original, translated differently
    "overlap",  # one prompt in two splits or in both classes
    "misaligned",  # rows that stand beside the wrong originals
    "untranslated",  # a translation equal to its original
    "wrong-language",  # a prompt in another language than its file says
    "language-not-identified",  # a language that the identifier does not know
    "length-ratio",  # a translation far shorter or longer than its kind
    "encoding",  # broken, invisible or undecoded characters
    "failed-translation",  # a row marked failed by the build
    "missing-back-translation",  # a language without back-translation
    "stray-back-translation",  # a back-translation of a language that has no prompts
    "null-back-translation",  # back-translations that are null or empty
    "english-differs",  # English prompts that are not the translated ones
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault.

    Attributes:
        code: Its kind.
        where: File or cell.
        detail: What is wrong, in words, with row numbers; never a prompt's text.
        rows: Rows concerned, from 1.
    """

    code: Code
    where: str
    detail: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CellReport:
    """Counts of one cell.

    Attributes:
        language: BCP-47 code.
        split: The split.
        harm: The class.
        n: Rows.
        missing: There is no file, or it cannot be read.
        duplicates: Rows that repeat an earlier row's text.
        empty: Rows without a usable text.
        untranslated: Rows equal to their original.
        wrong_language: Rows in another language.
        misaligned: Rows beside the wrong original.
        overlaps: Rows whose instruction also stands in another split or class.
        length_outliers: Rows of unusual length ratio.
        encoding_faults: Rows with broken or invisible characters.
        prompt_set: The set the cell belongs to.
    """

    language: str
    split: Split
    harm: Harm
    n: int
    missing: bool
    duplicates: int = 0
    empty: int = 0
    untranslated: int = 0
    wrong_language: int = 0
    misaligned: int = 0
    overlaps: int = 0
    length_outliers: int = 0
    encoding_faults: int = 0
    prompt_set: str = "polyrefuse"


@dataclass(frozen=True)
class CheckReport:
    """All that was found.

    Attributes:
        cells: One report per cell of PolyRefuse, absent ones included, sorted.
        further: The same for the further sets.
        problems: All faults, in a fixed order.
    """

    cells: tuple[CellReport, ...]
    further: tuple[CellReport, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class CellView:
    """One cell as it was found.

    Attributes:
        cell: Which.
        path: Its file; None when absent.
        rows: Its rows; empty when absent or broken.
        ids: Ids of the rows.
        broken: Why the file cannot be read.
        originals: English texts at the same rows, believed or not; for test files and built data the row's own.
        failed: Rows that the build marked failed, from 1.
        english_rows: Rows of the English file that it should be parallel to; None where there is none.
    """

    cell: Cell
    path: Path | None
    rows: list[Row] = field(default_factory=list[Row])
    ids: list[str] = field(default_factory=list[str])
    broken: str | None = None
    originals: list[str | None] = field(default_factory=list[str | None])
    failed: tuple[int, ...] = ()
    english_rows: int | None = None

    @property
    def where(self) -> str:
        """File and cell, for reports."""
        return f"{self.cell}" if self.path is None else f"{self.path.name} ({self.cell})"

    @cached_property
    def texts(self) -> list[str]:
        """Texts by row; what cannot be a prompt is an empty one."""
        return [row.text if isinstance(row.text, str) and row_fault(row.text) is None else "" for row in self.rows]

    @cached_property
    def raw_texts(self) -> list[str]:
        """Texts by row as found; what is no text is an empty one."""
        return [row.text if isinstance(row.text, str) else "" for row in self.rows]


def some_rows(rows: tuple[int, ...] | list[int]) -> str:
    """Row numbers for a message: all when few, else the first and how many."""
    shown = ", ".join(str(row) for row in rows[:8])
    return f"row{'s' if len(rows) > 1 else ''} {shown}" + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
