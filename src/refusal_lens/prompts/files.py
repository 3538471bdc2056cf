"""A user's own prompts: a JSON list, JSON Lines, or plain lines.

- `.json`: a list of texts, or of objects whose text stands in `text`, `prompt`, `instruction_translated` or
  `instruction`, the first of these that is there; for English `instruction` comes before `instruction_translated`,
  because published test files hold the English original there.
- `.jsonl`, `.ndjson`: one such text or object a line.
- anything else: JSON when it begins like a JSON list and parses as one; otherwise one prompt a line.

Ids: `prompt_id` or `id` of an object, else from the English original (`english`, or `instruction` beside a
translation), else from the text itself. Blank lines of line formats are no prompts; everything else counts or is an error.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.prompts.identity import id_of, number_copies
from refusal_lens.prompts.layout import LANGUAGE_CODE
from refusal_lens.prompts.reading import clean_text, kind_of, parse_json, read_text, text_fault
from refusal_lens.types import HARMS, SPLITS, Harm, JsonValue, Prompt, Split

_MAX_ID = 200


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
    if not LANGUAGE_CODE.fullmatch(language):
        raise DataError(f"{language!a} is no language code; write it like en, zh or pt-BR")
    if split not in SPLITS or harm not in HARMS:
        raise DataError(
            f"no split {split!r} of class {harm!r}; splits: {', '.join(SPLITS)}; classes: {', '.join(HARMS)}"
        )
    file = Path(path)
    entries = _entries(file)
    if not entries:
        raise DataError(f"{file}: no prompts in it; write one a line, or a JSON list of texts")
    given: list[str | None] = []
    prompts: list[Prompt] = []
    for where, entry in entries:
        prompt_id, prompt = _prompt(entry, where, language=language, harm=harm, split=split)
        given.append(prompt_id)
        prompts.append(prompt)
    repeated = [
        prompt_id
        for prompt_id, count in Counter(prompt_id for prompt_id in given if prompt_id is not None).items()
        if count > 1
    ]
    if repeated:
        raise DataError(
            f"{file}: id {repeated[0]!a} occurs {given.count(repeated[0])} times; ids must be unique, or leave them all out"
        )
    ids = number_copies(prompt.prompt_id for prompt in prompts)
    return [Prompt(prompt_id, prompt.language, harm, split, prompt.text, "file", prompt.english, prompt.topic, prompt.category)
            for prompt_id, prompt in zip(ids, prompts, strict=True)]  # fmt: skip


def _entries(file: Path) -> list[tuple[str, JsonValue]]:
    text = read_text(file)
    suffix = file.suffix.lower()
    if suffix in {".jsonl", ".ndjson"}:
        return [(f"{file}, line {number}", parse_json(line, f"{file}, line {number}")) for number, line in _lines(text)]
    if suffix == ".json" or text.lstrip().startswith("["):
        try:
            value = parse_json(text, str(file))
        except DataError:
            if suffix == ".json":
                raise
        else:
            if not isinstance(value, list):
                raise DataError(f"{file}: expected a JSON list of texts or objects, found {kind_of(value)}")
            return [(f"{file}, row {number}", entry) for number, entry in enumerate(value, start=1)]
    return [(f"{file}, line {number}", line) for number, line in _lines(text)]


def _lines(text: str) -> list[tuple[int, str]]:
    # Not splitlines(): U+2028, U+0085 and form feeds may stand inside a prompt or a JSON text.
    return [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _prompt(entry: JsonValue, where: str, *, language: str, harm: Harm, split: Split) -> tuple[str | None, Prompt]:
    if isinstance(entry, str):
        text = clean_text(entry, where)
        return None, Prompt(
            id_of(text), language, harm, split, text, prompt_set="file", english=text if language == "en" else None
        )
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected a text or an object with a text, found {kind_of(entry)}")
    column = _column(entry, language)
    if column is None:
        raise DataError(f"{where}: no prompt in this object; put it under `text`, `prompt` or `instruction`")
    text = clean_text(entry[column], where)
    english = _optional(entry, "english", where) or (
        _optional(entry, "instruction", where) if column == "instruction_translated" else None
    )
    if english is None and language == "en":
        english = text
    given = _given_id(entry, where)
    prompt = Prompt(given or id_of(english or text), language, harm, split, text, prompt_set="file", english=english,
                    topic=_optional(entry, "topic", where), category=_optional(entry, "category", where))  # fmt: skip
    return given, prompt


def _column(entry: dict[str, JsonValue], language: str) -> str | None:
    pair = ("instruction", "instruction_translated") if language == "en" else ("instruction_translated", "instruction")
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
