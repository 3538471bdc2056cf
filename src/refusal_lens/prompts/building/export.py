"""`data export`: a published folder as a data set of the standard layout, with the published back-translations."""

from __future__ import annotations

import json
import os
from pathlib import Path

from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.errors import DataError
from refusal_lens.prompts.building.build import RECORD
from refusal_lens.prompts.building.card import write_card
from refusal_lens.prompts.checking.quality import back_translations
from refusal_lens.prompts.checking.results import CellView
from refusal_lens.prompts.checking.views import views_of
from refusal_lens.prompts.loading.built import StandardRow, write_standard
from refusal_lens.prompts.loading.cell import POLYREFUSE
from refusal_lens.prompts.loading.layout import find_layout
from refusal_lens.prompts.loading.published import published
from refusal_lens.prompts.loading.texts import row_fault


def export(root: str | os.PathLike[str], out: Path) -> int:
    """Write every cell of a published folder as Parquet.

    Args:
        root: The folder.
        out: Where the data set goes; must not hold one yet.

    Returns:
        Rows written.

    Raises:
        DataError: When the source is already a built data set, nothing can be read, or `out` is taken.
    """
    layout = find_layout(root)
    if layout.parquet is not None:
        raise DataError(f"{root}: is a built data set already")
    if (out / "data").exists():
        raise DataError(f"{out}: holds a data folder already; choose another --out")
    backs: dict[tuple[str, str], str] = {}
    for code, path in layout.back_translated().items():
        backs.update({(code, pair.prompt_id): pair.back for pair in back_translations(path) if pair.back is not None})
    rows: list[StandardRow] = []
    for view in views_of(layout):
        if view.broken is not None:
            raise DataError(f"{view.broken}; nothing was written")
        rows.extend(_rows(view, backs))
    if not rows:
        raise DataError(f"{root}: no prompts in it")
    write_standard(out / "data", rows)
    languages = {row.language for row in rows} - {"en"}
    record: dict[str, object] = {
        "schema_version": 1,
        "prompts": str(root),
        "commit": published().commit,
        "sources": [source.name for source in published().sources],
        "translators": dict.fromkeys(sorted(languages), "as published"),
    }
    write_atomic(out / RECORD, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode(), mode=PUBLIC_FILE)
    write_card(out, rows, record)
    return len(rows)


def _rows(view: CellView, backs: dict[tuple[str, str], str]) -> list[StandardRow]:
    cell = view.cell
    translated_back = (cell.split, cell.harm, cell.prompt_set) == ("test", "harmful", POLYREFUSE)
    rows: list[StandardRow] = []
    for prompt_id, row in zip(view.ids, view.rows, strict=True):
        fault = row.fault or row_fault(row.text)
        text = row.text if isinstance(row.text, str) and fault is None else None
        back = backs.get((cell.language, prompt_id)) if translated_back else None
        rows.append(
            StandardRow(
                prompt_id, cell.language, cell.harm, cell.split, text, row.english, back, row.category, cell.prompt_set,
                "failed" if text is None else "ok", fault,
            )
        )  # fmt: skip
    return rows
