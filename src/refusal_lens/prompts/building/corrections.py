"""Human corrections: read edits from a table, check them all, apply them, and keep who corrected what when.

Fields of an edit: `prompt_id`, `language`, `text`, `reviewer`, `date` (YYYY-MM-DD), and optionally `note`. Nothing is
applied unless every edit is right. The edits are kept in `corrections.jsonl` of the data set, so that a later build
applies them again; the last edit of a text wins. A corrected row loses its back-translation: it was of another text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.errors import DataError
from refusal_lens.prompts.building.croissant import write_croissant
from refusal_lens.prompts.loading.built import StandardRow, read_standard_rows, write_standard
from refusal_lens.prompts.loading.cell import ENGLISH, check_language
from refusal_lens.prompts.loading.layout import find_layout
from refusal_lens.prompts.loading.tabular import read_rows
from refusal_lens.prompts.loading.texts import clean_text
from refusal_lens.types import JsonValue

LOG = "corrections.jsonl"
_REQUIRED = ("prompt_id", "language", "text", "reviewer", "date")


@dataclass(frozen=True, slots=True)
class Correction:
    """One edit of one translation."""

    prompt_id: str
    language: str
    text: str
    reviewer: str
    date: str
    note: str | None = None


def read_corrections(path: Path) -> list[Correction]:
    """Read edits.

    Args:
        path: A table (`tabular`): CSV, TSV, Parquet, JSON or JSON Lines.

    Returns:
        Edits in file order.

    Raises:
        DataError: When a field is absent or wrong; nothing is applied then.
    """
    rows = read_rows(path).rows
    if not rows:
        raise DataError(f"{path}: no corrections in it; fields: {', '.join(_REQUIRED)}, note")
    return [_correction(row.value, row.where) for row in rows]


def correct(root: Path, edits: Sequence[Correction]) -> int:
    """Apply edits to a built data set and keep them.

    Args:
        root: The data set.
        edits: From `read_corrections`.

    Returns:
        Rows changed.

    Raises:
        DataError: When the folder is no built data set, or an edit names a prompt or language it does not have.
    """
    layout = find_layout(root)
    if layout.parquet is None:
        raise DataError(
            f"{root}: corrections apply to a built data set; make one with `refusal-lens data export` or `data build`"
        )
    rows = [row for path in sorted(layout.parquet.glob("*/*.parquet")) for row in read_standard_rows(path)]
    known = {(row.language, row.prompt_id) for row in rows}
    for edit in edits:
        if (edit.language, edit.prompt_id) not in known:
            raise DataError(f"{root}: no {edit.language} prompt {edit.prompt_id!a}; nothing was applied")
    folder = layout.parquet.parent
    recorded = _recorded(folder)
    log = [*recorded, *(edit for edit in edits if edit not in recorded)]
    write_atomic(folder / LOG, "".join(json.dumps(asdict(edit)) + "\n" for edit in log).encode(), mode=PUBLIC_FILE)
    applied, _ = _applied(rows, log)
    changed = sum(before != after for before, after in zip(rows, applied, strict=True))
    write_standard(layout.parquet, applied)
    write_croissant(folder)
    return changed


def apply_recorded(folder: Path, rows: list[StandardRow]) -> tuple[list[StandardRow], int]:
    """Apply the edits that a data set keeps."""
    return _applied(rows, _recorded(folder))


def _recorded(folder: Path) -> list[Correction]:
    return read_corrections(folder / LOG) if (folder / LOG).exists() else []


def _applied(rows: Sequence[StandardRow], edits: Sequence[Correction]) -> tuple[list[StandardRow], int]:
    last = {(edit.language, edit.prompt_id): edit for edit in edits}
    applied: list[StandardRow] = []
    for row in rows:
        edit = last.get((row.language, row.prompt_id))
        if edit is None:
            applied.append(row)
            continue
        note = f"corrected by {edit.reviewer} on {edit.date}" + (f": {edit.note}" if edit.note else "")
        back = row.back_translation if row.text == edit.text else None
        applied.append(replace(row, text=edit.text, back_translation=back, status="corrected", note=note))
    return applied, sum(row.status == "corrected" for row in applied)


def _correction(row: JsonValue, where: str) -> Correction:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with {', '.join(_REQUIRED)}")
    absent = [name for name in _REQUIRED if row.get(name) in (None, "")]
    if absent:
        raise DataError(f"{where}: no {', '.join(absent)}; nothing was applied")
    values = {name: clean_text(row[name], where, name=name) for name in _REQUIRED}
    check_language(values["language"])
    if values["language"] == ENGLISH:
        raise DataError(f"{where}: English texts are the originals; ids come from them, so they are not corrected here")
    try:
        date.fromisoformat(values["date"])
    except ValueError:
        raise DataError(
            f"{where}: the date {values['date']!a} is not written YYYY-MM-DD; nothing was applied"
        ) from None
    note = row.get("note")
    return Correction(**values, note=note if isinstance(note, str) and note else None)
