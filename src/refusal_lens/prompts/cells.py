"""One cell of PolyRefuse, language x split x class, with the right text column and ids shared by all translations.

What the published files need (none of it is written in them):

- test files: `instruction` is ENGLISH and `instruction_translated` the translation; train and val files: `instruction`
  IS the translation, and the English original stands in `dataset/splits` at the same row;
- English train and val prompts are only in `dataset/splits`; the English harmless test prompts there are other ones
  than those that were translated, so the test cell comes from the translated files' own English column;
- a cell without a file is `AbsentCell`: named and skipped by callers. A broken file is a `DataError`.

Rows are returned as they are, with copies and empty texts; `load_prompts` turns them into prompts and is strict.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refusal_lens.errors import DataError, MissingCell
from refusal_lens.prompts.identity import id_of, id_of_position, number_copies
from refusal_lens.prompts.layout import Layout
from refusal_lens.prompts.reading import clean_text, kind_of, read_records, text_fault
from refusal_lens.types import Harm, JsonValue, Prompt, Split

ENGLISH = "en"


class AbsentCell(MissingCell):
    """A prompt set has no such cell.

    Attributes:
        language: The cell's language.
        split: The cell's split.
        harm: The cell's class.
        prompt_set: The set that lacks it.
    """

    def __init__(self, message: str, *, language: str, split: Split, harm: Harm, prompt_set: str) -> None:
        super().__init__(message)
        self.language = language
        self.split: Split = split
        self.harm: Harm = harm
        self.prompt_set = prompt_set

    def __reduce__(self) -> tuple[object, ...]:
        return _absent, (str(self), self.language, self.split, self.harm, self.prompt_set)


def _absent(message: str, language: str, split: Split, harm: Harm, prompt_set: str) -> AbsentCell:
    return AbsentCell(message, language=language, split=split, harm=harm, prompt_set=prompt_set)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a prompt file.

    Attributes:
        where: File and row number, for messages.
        text: The prompt in the cell's language, as found.
        english: The English original, None where unknown.
        category: The source's harm category.
    """

    where: str
    text: JsonValue
    english: str | None
    category: str | None


def read_cell(layout: Layout, *, language: str, split: Split, harm: Harm) -> list[Row]:
    """Read the rows of one PolyRefuse cell.

    Args:
        layout: Where the files lie.
        language: BCP-47 code as in the file names.
        split: train, val or test.
        harm: harmful or harmless.

    Returns:
        Rows in file order.

    Raises:
        AbsentCell: When there is no file for it.
        DataError: When its file is broken.
    """
    path = layout.translated(language=language, split=split, harm=harm)
    if path.exists():
        return _rows_of(path, layout, language=language, split=split, harm=harm)
    if language == ENGLISH:
        rows = _english_rows(layout, split=split, harm=harm)
        if rows is not None:
            return rows
    there = ", ".join(layout.languages()) or "none"
    raise AbsentCell(
        f"no {language} {harm} {split} prompts: {path.name} is not in {path.parent} (languages there: {there})",
        language=language, split=split, harm=harm, prompt_set="polyrefuse",
    )  # fmt: skip


def to_prompts(rows: list[Row], *, language: str, split: Split, harm: Harm, prompt_set: str) -> list[Prompt]:
    """Turn rows into prompts, strictly.

    Args:
        rows: Rows of one cell.
        language: The cell's language.
        split: The cell's split.
        harm: The cell's class.
        prompt_set: Name of the set.

    Returns:
        One prompt per row, with ids unique within the cell.

    Raises:
        DataError: When a text is no text, empty, invisible, too long or not encodable, or when there is no row.
    """
    if not rows:
        raise DataError(
            f"the {language} {harm} {split} cell of {prompt_set} has no rows; re-download or remove its file"
        )
    texts = [clean_text(row.text, row.where) for row in rows]
    return [
        Prompt(
            prompt_id, language, harm, split, text, prompt_set=prompt_set, english=row.english, category=row.category
        )
        for prompt_id, text, row in zip(row_ids(rows, split=split, harm=harm), texts, rows, strict=True)
    ]


def row_ids(rows: list[Row], *, split: Split, harm: Harm) -> list[str]:
    """Ids of a cell's rows: from the English text where known, from the position otherwise."""
    return number_copies(
        id_of_position(harm=harm, split=split, position=position, rows=len(rows))
        if row.english is None
        else id_of(row.english)
        for position, row in enumerate(rows)
    )


def parallel_english(layout: Layout, *, split: Split, harm: Harm) -> list[str] | None:
    """English texts that the train or val translations are parallel to, or None where they are not at hand."""
    own = layout.translated(language=ENGLISH, split=split, harm=harm)
    path = own if own.exists() else layout.english_split(split=split, harm=harm)
    if path is None:
        return None
    return [
        clean_text(row.get("instruction"), f"{path}, row {number}")
        for number, row in enumerate(read_records(path), start=1)
    ]


def _rows_of(path: Path, layout: Layout, *, language: str, split: Split, harm: Harm) -> list[Row]:
    records = read_records(path)
    rows = [
        _row(record, f"{path}, row {number}", language=language, split=split)
        for number, record in enumerate(records, start=1)
    ]
    if language == ENGLISH or split == "test" or any(row.english is not None for row in rows):
        return rows
    english = parallel_english(layout, split=split, harm=harm)
    if english is None or len(english) != len(rows):
        return rows  # Not parallel to what we know: ids by position, and `data check` says so.
    return [Row(row.where, row.text, original, row.category) for row, original in zip(rows, english, strict=True)]


def _row(record: dict[str, JsonValue], where: str, *, language: str, split: Split) -> Row:
    category = record.get("category")
    kept_category = category if isinstance(category, str) and text_fault(category) is None else None
    if "instruction" not in record:
        raise DataError(f"{where}: no `instruction` (found: {_keys(record)}); is this a PolyRefuse file?")
    instruction = record["instruction"]
    if language == ENGLISH:
        text = clean_text(instruction, where)
        return Row(where, text, text, kept_category)
    if "instruction_translated" in record:
        return Row(
            where,
            record["instruction_translated"],
            clean_text(instruction, where, name="English original"),
            kept_category,
        )
    if split == "test":
        raise DataError(
            f"{where}: no `instruction_translated`; in test files `instruction` is the English original, so this row has no {language} text"
        )
    if not isinstance(instruction, str | None):
        raise DataError(
            f"{where}: the prompt is {kind_of(instruction)}, not a text; fill it in or remove the row in every language"
        )
    return Row(where, instruction, None, kept_category)


def _english_rows(layout: Layout, *, split: Split, harm: Harm) -> list[Row] | None:
    if split == "test":
        for language in layout.languages():
            path = layout.translated(language=language, split=split, harm=harm)
            if path.exists():
                rows = [
                    _row(record, f"{path}, row {number}", language=ENGLISH, split=split)
                    for number, record in enumerate(read_records(path), start=1)
                ]
                return rows or None
    path = layout.english_split(split=split, harm=harm)
    if path is None:
        return None
    return [
        _row(record, f"{path}, row {number}", language=ENGLISH, split=split)
        for number, record in enumerate(read_records(path), start=1)
    ]


def _keys(record: dict[str, JsonValue]) -> str:
    shown = ", ".join(ascii(key[:30]) for key in sorted(record)[:6])
    return shown or "nothing"
