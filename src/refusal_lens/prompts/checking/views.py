"""Every cell of a folder as it was found, faults and all: what `data check`, `quality` and `export` read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from refusal_lens.errors import DataError
from refusal_lens.prompts.checking.results import CellView
from refusal_lens.prompts.loading.built import SPLIT_FILES, StandardRow, read_standard_rows
from refusal_lens.prompts.loading.cell import ENGLISH, POLYREFUSE, AbsentCell, Cell
from refusal_lens.prompts.loading.cells import Row, cell_file, parallel_english, read_cell, row_ids
from refusal_lens.prompts.loading.layout import FURTHER_SETS, Layout, parquet_languages
from refusal_lens.types import HARMS, SPLITS


def views_of(layout: Layout, languages: Sequence[str] | None = None) -> Iterator[CellView]:
    """Every cell, absent ones included."""
    if layout.parquet is not None:
        yield from _parquet_views(layout, languages)
        return
    for language in languages or layout.languages():
        for split in SPLITS:
            for harm in HARMS:
                yield _json_view(layout, Cell(language, split, harm))
    for name, files in FURTHER_SETS.items():
        there = layout.languages(name)
        for language in there if languages is None else [code for code in languages if code in there]:
            for harm in files:
                yield _json_view(layout, Cell(language, "test", harm, name))


def _json_view(layout: Layout, cell: Cell) -> CellView:
    path = cell_file(layout, cell)
    try:
        rows = read_cell(layout, cell)
        english = parallel_english(layout, cell) if cell.language != ENGLISH else None
    except AbsentCell:
        return CellView(cell, None)
    except DataError as error:
        return CellView(cell, path, broken=str(error))
    originals = [row.row_of for row in rows]
    if cell.split == "test" and cell.language != ENGLISH:
        english_rows = _english_test_rows(layout, cell)
    else:
        english_rows = None if english is None else len(english)
    return CellView(cell, path, rows, row_ids(rows, cell), originals=originals, english_rows=english_rows)


def _english_test_rows(layout: Layout, cell: Cell) -> int | None:
    own = layout.expected(replace(cell, language=ENGLISH))
    if own is None or not own.exists():
        return None
    try:
        return len(read_cell(layout, replace(cell, language=ENGLISH)))
    except DataError:
        return None


def _parquet_views(layout: Layout, languages: Sequence[str] | None) -> Iterator[CellView]:
    assert layout.parquet is not None
    rows: dict[Cell, list[StandardRow]] = {}
    broken: list[CellView] = []
    for language in languages or parquet_languages(layout.parquet):
        for split in SPLITS:
            path = layout.parquet / language / SPLIT_FILES[split]
            if not path.exists():
                continue
            try:
                for row in read_standard_rows(path):
                    rows.setdefault(Cell(language, split, row.harm, row.prompt_set), []).append(row)
            except DataError as error:
                broken.extend(CellView(Cell(language, split, harm), path, broken=str(error)) for harm in HARMS)
    kinds = dict.fromkeys(
        replace(cell, language=ENGLISH) for cell in sorted(rows, key=lambda cell: (cell.prompt_set != POLYREFUSE, cell))
    )
    yield from broken
    lost = {view.cell for view in broken}
    for kind in kinds:
        for language in languages or parquet_languages(layout.parquet):
            cell = replace(kind, language=language)
            if cell not in lost:
                yield _parquet_view(layout, cell, rows.get(cell), rows.get(kind))


def _parquet_view(
    layout: Layout, cell: Cell, rows: list[StandardRow] | None, english: list[StandardRow] | None
) -> CellView:
    if rows is None or layout.parquet is None:
        return CellView(cell, None)
    path = layout.parquet / cell.language / SPLIT_FILES[cell.split]
    converted = [Row(f"{path}, {row.prompt_id!a}", row.text, row.english, row.english, row.category) for row in rows]
    failed = tuple(number for number, row in enumerate(rows, start=1) if row.status == "failed")
    return CellView(
        cell,
        path,
        converted,
        [row.prompt_id for row in rows],
        originals=[row.english for row in rows],
        failed=failed,
        english_rows=None if english is None or cell.language == ENGLISH else len(english),
    )
