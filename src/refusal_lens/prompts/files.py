"""A user's own prompts: a JSON list, JSON Lines, or plain lines.

- `.json`: a list of texts, or of objects whose text stands in `text`, `prompt`, `instruction_translated` or
  `instruction`, the first of these that is there; for English `instruction` comes before `instruction_translated`,
  because published test files hold the English original there.
- `.jsonl`, `.ndjson`: one such text or object a line.
- anything else: JSON or JSON Lines when it begins and parses like one; otherwise one prompt a line.

Ids: `prompt_id` or `id` of an object, else from the English original (`english`, or `instruction` beside a
translation), else from the text itself. Blank lines of line formats are no prompts; everything else counts or is an error.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.prompts.cell import ENGLISH, Cell
from refusal_lens.prompts.identity import id_of, number_copies
from refusal_lens.prompts.reading import clean_text, kind_of, parse_json, read_text, text_fault
from refusal_lens.types import Harm, JsonValue, Prompt, Split

logger = logging.getLogger(__name__)

_MAX_ID = 200
_JSON_LINES = frozenset({".jsonl", ".ndjson"})


def load_file(path: str | os.PathLike[str], *, language: str, harm: Harm, split: Split = "test") -> list[Prompt]:
    """Load prompts from a file of the user's own.

    Args:
        path: The file.
        language: BCP-47 code of its prompts.
        harm: Their class.
        split: What they are used for.

    Returns:
        Prompts in file order with unique ids.

    Raises:
        DataError: When the file, a row or an id cannot be used.
    """
    cell = Cell(language, split, harm, "file").checked()
    file = Path(path)
    entries = _entries(file)
    if not entries:
        raise DataError(f"{file}: no prompts in it; write one a line, or a JSON list of texts")
    read = [_prompt(entry, where, cell) for where, entry in entries]
    given = Counter(prompt_id for prompt_id, _ in read if prompt_id is not None)
    for prompt_id, count in given.items():
        if count > 1:
            raise DataError(f"{file}: id {prompt_id!a} occurs {count} times; make ids unique, or leave them all out")
    ids = number_copies(prompt.prompt_id for _, prompt in read)
    return [replace(prompt, prompt_id=prompt_id) for prompt_id, (_, prompt) in zip(ids, read, strict=True)]


def _entries(file: Path) -> list[tuple[str, JsonValue]]:
    text = read_text(file)
    suffix = file.suffix.lower()
    if suffix == ".json":
        return _json_entries(text, file)
    if suffix in _JSON_LINES:
        return _json_line_entries(text, file)
    reader = {"[": _json_entries, "{": _json_line_entries}.get(text.lstrip()[:1])
    if reader is not None:
        try:
            return reader(text, file)
        except DataError:
            logger.debug("%s: not JSON, read as one prompt a line", file)
    return [(f"{file}, line {number}", line) for number, line in _lines(text)]


def _json_entries(text: str, file: Path) -> list[tuple[str, JsonValue]]:
    value = parse_json(text, str(file))
    if not isinstance(value, list):
        raise DataError(f"{file}: expected a JSON list of texts or objects, found {kind_of(value)}")
    return [(f"{file}, row {number}", entry) for number, entry in enumerate(value, start=1)]


def _json_line_entries(text: str, file: Path) -> list[tuple[str, JsonValue]]:
    return [(f"{file}, line {number}", parse_json(line, f"{file}, line {number}")) for number, line in _lines(text)]


def _lines(text: str) -> list[tuple[int, str]]:
    # Not splitlines(): U+2028, U+0085 and form feeds may stand inside a prompt or a JSON text.
    return [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _prompt(entry: JsonValue, where: str, cell: Cell) -> tuple[str | None, Prompt]:
    fields: JsonValue = {"text": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict):
        raise DataError(f"{where}: expected a text or an object with a text, found {kind_of(entry)}")
    column = _column(fields, cell.language)
    if column is None:
        raise DataError(f"{where}: no prompt in this object; put it under `text`, `prompt` or `instruction`")
    text = clean_text(fields[column], where)
    english = _optional(fields, "english", where)
    if english is None and cell.language == ENGLISH:
        english = text
    elif english is None and column == "instruction_translated":
        english = _optional(fields, "instruction", where)
    given = _given_id(fields, where)
    topic, category = _optional(fields, "topic", where), _optional(fields, "category", where)
    prompt_id = given or id_of(english or text)
    return given, Prompt(
        prompt_id, cell.language, cell.harm, cell.split, text, cell.prompt_set, english, topic, category
    )


def _column(entry: dict[str, JsonValue], language: str) -> str | None:
    pair = (
        ("instruction", "instruction_translated") if language == ENGLISH else ("instruction_translated", "instruction")
    )
    return next((name for name in ("text", "prompt", *pair) if name in entry), None)


def _optional(entry: dict[str, JsonValue], name: str, where: str) -> str | None:
    value = entry.get(name)
    return None if value is None or value == "" else clean_text(value, where, name=name)


def _given_id(entry: dict[str, JsonValue], where: str) -> str | None:
    value = entry.get("prompt_id", entry.get("id"))
    if value is None:
        return None
    written = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(written, str):
        raise DataError(f"{where}: the id is {kind_of(value)}; write it as a text or a whole number")
    if text_fault(written) is not None or len(written) > _MAX_ID or not written.isprintable():
        raise DataError(
            f"{where}: the id is empty, longer than {_MAX_ID} characters or not printable; write a short plain text"
        )
    return written
