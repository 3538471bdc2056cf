"""Faults between cells: what is missing, what stands twice, and English columns that do not agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeAlias

from refusal_lens.errors import DataError
from refusal_lens.prompts.checking.quality import back_translations
from refusal_lens.prompts.checking.results import CellView, Problem, some_rows
from refusal_lens.prompts.checking.rows import LanguageIdentifier
from refusal_lens.prompts.loading.cell import ENGLISH, POLYREFUSE, Cell, base_id, normalised
from refusal_lens.prompts.loading.layout import Layout
from refusal_lens.prompts.loading.texts import read_records

Found: TypeAlias = tuple[Cell, Problem]


def between_cells(layout: Layout, views: Sequence[CellView], identifier: LanguageIdentifier | None) -> list[Found]:
    """All faults between cells."""
    main = [view for view in views if view.cell.prompt_set == POLYREFUSE]
    found = [
        *_missing(views),
        *_overlaps(main),
        *_english_columns(views),
        *_split_files(layout, main),
        *_back(layout, main),
    ]
    if identifier is not None:
        unknown = sorted(
            {view.cell.language for view in views if view.rows and not identifier.knows(view.cell.language)}
        )
        detail = "the language identifier does not know it: wrong-language rows would not be noticed"
        found.extend(
            (Cell(code, "test", "harmful"), Problem("language-not-identified", code, detail)) for code in unknown
        )
    return found


def _missing(views: Sequence[CellView]) -> Iterator[Found]:
    by_language: dict[str, list[CellView]] = defaultdict(list)
    for view in views:
        by_language[view.cell.language].append(view)
    translated = {view.cell.prompt_set for view in views if view.path is not None and view.cell.language != ENGLISH}
    english_only = {view.cell.prompt_set for view in views} - translated
    for language, cells in by_language.items():
        absent = [view for view in cells if view.path is None and view.cell.prompt_set not in english_only]
        if all(view.path is None for view in cells):
            yield cells[0].cell, Problem("missing-language", language, f"no file of {language} is there")
        else:
            for view in absent:
                yield (
                    view.cell,
                    Problem("missing-cell", str(view.cell), f"no {view.cell} prompts: the cell is left out of audits"),
                )


def _overlaps(views: Sequence[CellView]) -> Iterator[Found]:
    by_language: dict[str, list[CellView]] = defaultdict(list)
    for view in views:
        if view.rows:
            by_language[view.cell.language].append(view)
    for cells in by_language.values():
        for one, other in combinations(cells, 2):
            first, second = sorted((one, other), key=lambda view: view.cell.split == "test")
            keys = set(_keys(first))
            rows = tuple(row for row, key in _rows_by_key(second) if key in keys)
            if rows:
                detail = f"{some_rows(rows)} also in {first.cell.harm} {first.cell.split}: taken out of tests"
                yield second.cell, Problem("overlap", second.where, detail, tuple(sorted(set(rows))))


def _keys(view: CellView) -> list[str]:
    return [key for _, key in _rows_by_key(view)]


def _rows_by_key(view: CellView) -> Iterator[tuple[int, str]]:
    for row, (text, prompt_id) in enumerate(zip(view.texts, view.ids, strict=True), start=1):
        if view.rows[row - 1].english is not None:
            yield row, base_id(prompt_id)
        if text:
            yield row, "text:" + normalised(text)


def _english_columns(views: Sequence[CellView]) -> Iterator[Found]:
    """Rows of different languages must be the same instructions: by English column, or by id in a built data set."""
    english = {
        replace(view.cell, language=ENGLISH): view for view in views if view.cell.language == ENGLISH and view.rows
    }
    for view in views:
        reference = english.get(replace(view.cell, language=ENGLISH))
        if reference is None or view is reference or not view.rows:
            continue
        expected, found = [base_id(code) for code in reference.ids], [base_id(code) for code in view.ids]
        rows = tuple(
            row for row, (one, other) in enumerate(zip(expected, found, strict=False), start=1) if one != other
        )
        known = any(row.english is not None for row in view.rows)
        if rows and known and (view.cell.split == "test" or len(expected) == len(found)):
            detail = f"{some_rows(rows)}: another instruction than the English file has there"
            yield view.cell, Problem("misaligned", view.where, detail, rows)


def _split_files(layout: Layout, views: Sequence[CellView]) -> Iterator[Found]:
    for view in views:
        path = layout.english_split(view.cell)
        if view.cell.language != ENGLISH or path is None or not view.rows or view.path == path:
            continue
        try:
            texts = {normalised(str(row.get("instruction"))) for row in read_records(path)}
        except DataError as error:
            yield view.cell, Problem("broken-file", path.name, str(error))
            continue
        shared = len(texts & {normalised(text) for text in view.texts})
        if shared < len(texts):
            read_from = view.path.name if view.path else "nowhere"
            detail = (
                f"{shared} of its {len(texts)} prompts are the translated ones: English test is read from {read_from}"
            )
            yield view.cell, Problem("english-differs", path.name, detail)


def _back(layout: Layout, views: Sequence[CellView]) -> Iterator[Found]:
    files = layout.back_translated()
    if not files:
        return
    languages = set(layout.languages()) - {ENGLISH}
    asked = {view.cell.language for view in views}
    for code in sorted((languages & asked) | (set(files) - languages) | (set(files) & asked)):
        cell = Cell(code, "test", "harmful")
        if code not in files:
            yield cell, Problem("missing-back-translation", code, f"harmful test has no back-translation from {code}")
            continue
        where = files[code].name
        if code not in languages:
            yield cell, Problem("stray-back-translation", where, f"there are no {code} prompts; published by mistake")
        try:
            pairs = back_translations(files[code])
        except DataError as error:
            yield cell, Problem("broken-file", where, str(error))
            continue
        nulls = tuple(row for row, pair in enumerate(pairs, start=1) if pair.back is None)
        if nulls:
            yield cell, Problem("null-back-translation", where, f"{some_rows(nulls)}: null, empty or failed", nulls)
