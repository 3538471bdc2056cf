"""A user's own prompts of one class and language: a table read by column, or one prompt a line.

The text stands in `text`, `prompt`, `instruction_translated`, `instruction`, `goal` or `behavior`, in any case, the
first of these that is there (for English `instruction` comes before `instruction_translated`, because published test
files hold the English original there); or in the column that the caller names. How a file becomes rows: `tabular`.

Ids: `prompt_id` or `id` of a row, else from the English original (`english`, or `instruction` beside a translation),
else from the text itself. Blank lines are no prompts; everything else counts or is an error.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.prompts.loading.cell import ENGLISH, OWN_SET, Cell, id_of, number_copies
from refusal_lens.prompts.loading.tabular import Row, TextTable, read_rows
from refusal_lens.prompts.loading.texts import clean_text
from refusal_lens.types import Harm, Prompt, Split

TEXT_COLUMNS = ("text", "prompt", "instruction", "instruction_translated", "goal", "behavior")
_TRANSLATED_FIRST = ("text", "prompt", "instruction_translated", "instruction", "goal", "behavior")

_OPTIONAL = ("english", "category", "topic")
IDS = ("prompt_id", "id")

_SHOWN = 60


class MissingColumnError(DataError):
    """A file has columns, and not the one that is to hold the prompts."""


@dataclass(frozen=True)
class PromptFile:
    """What was read from a file.

    Attributes:
        file: The file.
        prompts: Its prompts in order, with unique ids.
        column: The column that held the texts; None where the file has no columns.
    """

    file: Path
    prompts: tuple[Prompt, ...]
    column: str | None

    def summary(self) -> str:
        """How many prompts were read and how the first begins, so that a user sees a wrong column at once."""
        return f"{self.file}: {said(self.prompts)}" + (f" (column {self.column!r})" if self.column else "")


def said(prompts: Collection[Prompt]) -> str:
    """The count and the beginning of the first prompt, with whatever a terminal would obey escaped."""
    first = next(iter(prompts)).text
    shown = f"{first[:_SHOWN].rstrip()!r}" + ("…" if len(first) > _SHOWN else "")
    return f"{len(prompts)} prompt{'' if len(prompts) == 1 else 's'} read, the first: {shown}"


def load_file(
    path: str | os.PathLike[str], *, language: str, harm: Harm, split: Split = "test", column: str | None = None
) -> list[Prompt]:
    """Load prompts from a file of the user's own.

    Args:
        path: A `.csv`, `.tsv`, `.parquet`, `.json`, `.jsonl` or `.txt` file.
        language: BCP-47 code of its prompts.
        harm: Their class.
        split: What they are used for.
        column: Column that holds the texts; None for the usual names.

    Returns:
        Prompts in file order with unique ids.

    Raises:
        DataError: When the file, its columns, a row or an id cannot be used.

    Example:
        >>> load_file("advbench.csv", language="en", harm="harmful", column="goal")  # doctest: +SKIP
    """
    return list(read_prompts(path, language=language, harm=harm, split=split, column=column).prompts)


def read_prompts(
    path: str | os.PathLike[str], *, language: str, harm: Harm, split: Split = "test", column: str | None = None
) -> PromptFile:
    """Load a file as `load_file` does, and say which column held the texts; arguments and errors as there."""
    cell = Cell(language, split, harm, OWN_SET).checked()
    table = read_rows(Path(path), headers=TEXT_COLUMNS)
    if not table.rows:
        under = f" under its header ({table.listed()})" if table.columns else ""
        raise DataError(f"{table.file}: no prompts in it{under}; write one a line, or a table with a column `text`")
    names = TEXT_COLUMNS if language == ENGLISH else _TRANSLATED_FIRST
    found = table.named(names if column is None else (column,))
    if column is not None:
        if found is None:
            raise MissingColumnError(f"{table.file}: no column {column!a}; columns there: {table.listed()}")
        names = (found,)
    for name in (*_OPTIONAL, *IDS):
        table.named((name,))  # Refuses a name that two columns have.
    read = [_prompt(table, row, names, cell) for row in table.rows]
    given = Counter(prompt_id for prompt_id, _ in read if prompt_id is not None)
    for prompt_id, count in given.items():
        if count > 1:
            raise DataError(
                f"{table.file}: id {prompt_id!a} occurs {count} times; make ids unique, or leave them all out"
            )
    ids = number_copies(prompt.prompt_id for _, prompt in read)
    prompts = tuple(replace(prompt, prompt_id=prompt_id) for prompt_id, (_, prompt) in zip(ids, read, strict=True))
    return PromptFile(table.file, prompts, found)


def _prompt(table: TextTable, row: Row, names: Collection[str], cell: Cell) -> tuple[str | None, Prompt]:
    column = row.written(*(("text",) if isinstance(row.value, str) else names))
    if column is None:
        raise MissingColumnError(
            f"{row.where}: no prompt in this object; put it under `text`, `prompt`, `instruction` or `goal`, or name its "
            f"column (columns there: {table.listed()}; a CSV or TSV file begins with a header)"
        )
    text = clean_text(row.fields()[column], row.where)
    english = row.optional("english")
    if english is None and cell.language == ENGLISH:
        english = text
    elif english is None and column.casefold() == "instruction_translated":
        english = row.optional("instruction")
    given = row.given_id(*IDS)
    return given, Prompt(
        given or id_of(english or text),
        cell.language,
        cell.harm,
        cell.split,
        text,
        cell.prompt_set,
        english,
        row.optional("topic"),
        row.optional("category"),
    )
