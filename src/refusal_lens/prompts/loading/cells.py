"""The rows of one cell, with the right text column and ids shared by all translations.

What the published files need (none of it is written in them):

- test files: `instruction` is ENGLISH and `instruction_translated` the translation; train and val files: `instruction`
  IS the translation, and the English original stands in `dataset/splits` at the same row;
- English train and val prompts are only in `dataset/splits`; the English harmless test prompts there are other ones
  than those that were translated, so the test cell comes from the translated files' own English column;
- two published files (Chinese harmless train and val) hold other prompts than the English rows beside them: their
  lengths do not follow the English ones at all. Their rows keep the ids of their places, but get no English original;
- a cell without a file is `AbsentCell`: named and skipped by callers. A broken file is a `DataError`.

`read_cell` keeps faulty rows and says their fault, for `data check`; `to_prompts` is strict, for everything else.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.prompts.loading.alignment import lengths_agree
from refusal_lens.prompts.loading.cell import (
    ENGLISH,
    POLYREFUSE,
    AbsentCell,
    Cell,
    id_of,
    id_of_position,
    number_copies,
)
from refusal_lens.prompts.loading.layout import Layout
from refusal_lens.prompts.loading.texts import clean_text, read_records, row_fault
from refusal_lens.types import JsonValue, Prompt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a prompt file.

    Attributes:
        where: File and row number, for messages.
        text: The prompt in the cell's language, as found.
        english: The English original; None where unknown.
        row_of: The English text in whose row it stands, from which its id comes: equal to `english` unless the file
            turned out not to hold translations of those rows.
        category: The source's harm category.
        fault: What is wrong with the row other than its text; None for nothing.
    """

    where: str
    text: JsonValue
    english: str | None
    row_of: str | None
    category: str | None
    fault: str | None = None


def read_cell(layout: Layout, cell: Cell) -> list[Row]:
    """Read the rows of one cell."""
    path = cell_file(layout, cell)
    if path is None:
        there = ", ".join(layout.languages(cell.prompt_set)) or "none"
        expected = layout.expected(cell)
        where = f"{expected.name} is not in {expected.parent}" if expected else "this set has no such cell"
        raise AbsentCell(f"no {cell} prompts: {where} (languages of the set there: {there})", cell)
    rows = [_row(record, f"{path}, row {n}", cell) for n, record in enumerate(read_records(path), start=1)]
    if cell.language == ENGLISH or any(row.english is not None for row in rows):
        return rows
    english = parallel_english(layout, cell)
    if english is None or len(english) != len(rows):
        return rows  # Not parallel to what we know: ids by position, and `data check` says so.
    agree = lengths_agree([row.text for row in rows], english)
    return [
        replace(row, english=original if agree else None, row_of=original)
        for row, original in zip(rows, english, strict=True)
    ]


def to_prompts(rows: list[Row], cell: Cell) -> list[Prompt]:
    """Turn rows into prompts, strictly."""
    if not rows:
        raise DataError(f"the cell {cell} has no rows; re-download or remove its file")
    if any(row.english != row.row_of for row in rows):
        logger.warning("%s: not translations of the English rows beside them; see `refusal-lens data check`", cell)
    prompts: list[Prompt] = []
    for prompt_id, row in zip(row_ids(rows, cell), rows, strict=True):
        if row.fault is not None:
            raise DataError(f"{row.where}: {row.fault}; repair or re-download the file")
        text = clean_text(row.text, row.where)
        prompts.append(
            Prompt(
                prompt_id, cell.language, cell.harm, cell.split, text, cell.prompt_set, row.english, None, row.category
            )
        )
    return prompts


def row_ids(rows: list[Row], cell: Cell) -> list[str]:
    """Ids of a cell's rows: from the English text where known, from the position otherwise."""
    return number_copies(
        id_of_position(harm=cell.harm, split=cell.split, position=position, rows=len(rows))
        if row.row_of is None
        else id_of(row.row_of)
        for position, row in enumerate(rows)
    )


def cell_file(layout: Layout, cell: Cell) -> Path | None:
    """The file that holds a cell, or None; the English text may stand in another language's file or in the splits."""
    own = layout.expected(cell)
    if own is not None and own.exists():
        return own
    if cell.language != ENGLISH or own is None:
        return None
    if cell.split == "test":
        others = (layout.expected(replace(cell, language=code)) for code in layout.languages(cell.prompt_set))
        found = next((path for path in others if path is not None and path.exists()), None)
        if found is not None:
            return found
    return layout.english_split(cell)


def parallel_english(layout: Layout, cell: Cell) -> list[str | None] | None:
    """English texts that a train or val translation is parallel to, or None where they are not at hand."""
    if cell.split == "test":
        return None
    english = replace(cell, language=ENGLISH)
    path = cell_file(layout, english)
    return None if path is None else [_row(record, str(path), english).english for record in read_records(path)]


def _row(record: dict[str, JsonValue], where: str, cell: Cell) -> Row:
    category = record.get("category")
    kept = category if isinstance(category, str) and row_fault(category) is None else None
    if "instruction" not in record:
        shown = ", ".join(ascii(key[:30]) for key in sorted(record)[:6]) or "nothing"
        return Row(where, None, None, None, kept, f"no `instruction` in it (found: {shown})")
    instruction = record["instruction"]
    if isinstance(instruction, str) and cell.prompt_set != POLYREFUSE:
        instruction = instruction.removesuffix("\n")  # OKTest's file ends every prompt with one.
    fault = row_fault(instruction)
    original = instruction if isinstance(instruction, str) and fault is None else None
    if cell.language == ENGLISH:
        return Row(where, instruction, original, original, kept)
    if "instruction_translated" in record:
        return Row(
            where, record["instruction_translated"], original, original, kept, fault and f"the English original {fault}"
        )
    if cell.split == "test":
        missing = "no `instruction_translated`, and in test files `instruction` is the English original"
        return Row(where, None, original, original, kept, missing)
    return Row(where, instruction, None, None, kept)
