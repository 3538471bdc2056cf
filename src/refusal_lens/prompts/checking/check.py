"""`data check`: read every cell, look for faults inside cells and between them, and name them.

Between cells: missing cells and languages, instructions that stand in two splits or both classes, English columns that
differ from language to language, English prompts that are not the translated ones, back-translations that are absent,
empty, or of a language without prompts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from refusal_lens.errors import DataError
from refusal_lens.prompts.checking.between import between_cells
from refusal_lens.prompts.checking.results import CellReport, CellView, CheckReport, Code, Problem
from refusal_lens.prompts.checking.rows import LanguageIdentifier, check_view, copied_rows
from refusal_lens.prompts.checking.views import views_of
from refusal_lens.prompts.loading.cell import ENGLISH, POLYREFUSE, Cell
from refusal_lens.prompts.loading.layout import Layout, find_layout, parquet_languages
from refusal_lens.prompts.loading.published import published
from refusal_lens.prompts.loading.texts import row_fault

_ROWS_OF: dict[str, tuple[Code, ...]] = {
    "untranslated": ("untranslated",),
    "wrong_language": ("wrong-language",),
    "misaligned": ("misaligned",),
    "overlaps": ("overlap",),
    "length_outliers": ("length-ratio",),
    "encoding_faults": ("encoding",),
}


def check(
    root: str | os.PathLike[str],
    *,
    languages: Sequence[str] | None = None,
    identify: bool = True,
    progress: Callable[[str], None] | None = None,
) -> CheckReport:
    """Check a prompt folder.

    Args:
        root: As for `load_prompts`.
        languages: Languages to check; by default those that are there, and those that were published.
        identify: Tell the language of every prompt (the slowest part).
        progress: Called with the name of each cell when it is looked at.

    Returns:
        Cells and problems; a folder without a fault has no problems.

    Raises:
        DataError: When nothing could be read.
    """
    layout = find_layout(root)
    wanted = tuple(languages) if languages else _expected_languages(layout)
    views: list[CellView] = []
    for view in views_of(layout, wanted):
        if progress is not None:
            progress(str(view.cell))
        views.append(view)
    if not any(view.rows for view in views):
        faults = "; ".join(view.broken for view in views if view.broken is not None)
        raise DataError(f"{root}: nothing could be read" + (f" ({faults[:500]})" if faults else ""))
    identifier = LanguageIdentifier(sorted({*wanted, *_published_languages(), ENGLISH})) if identify else None
    inside: list[tuple[Cell, Problem]] = []
    for view in views:
        if progress is not None:
            progress(f"{view.cell}: faults")
        inside.extend((view.cell, problem) for problem in check_view(view, identifier))
    between = between_cells(layout, views, identifier)
    rows: Counter[tuple[Cell, Code]] = Counter(
        (cell, problem.code) for cell, problem in (*inside, *between) for _ in set(problem.rows)
    )
    reports = [(view.cell, _report(view, rows)) for view in views]
    return CheckReport(
        tuple(report for cell, report in reports if cell.prompt_set == POLYREFUSE),
        tuple(report for cell, report in reports if cell.prompt_set != POLYREFUSE),
        tuple(problem for _, problem in (*between, *inside)),
    )


def _expected_languages(layout: Layout) -> tuple[str, ...]:
    if layout.parquet is not None:
        return parquet_languages(layout.parquet)
    found = set(layout.languages())
    return tuple(sorted(found if layout.translations is None else found | _published_languages()))


def _published_languages() -> set[str]:
    stems = [
        path.rsplit("/", 1)[-1].removesuffix(".json")
        for path in published().files
        if path.startswith("PolyRefuse/harm")
    ]
    return {stem.rpartition("_")[2] for stem in stems if "_back_translated_" not in stem}


def _report(view: CellView, rows: Counter[tuple[Cell, Code]]) -> CellReport:
    cell = view.cell
    report = CellReport(
        cell.language,
        cell.split,
        cell.harm,
        n=len(view.rows),
        missing=view.path is None or view.broken is not None,
        duplicates=len(copied_rows(view)),
        empty=sum(row_fault(row.text) is not None for row in view.rows),
        prompt_set=cell.prompt_set,
    )
    counts = {name: sum(rows[cell, code] for code in codes) for name, codes in _ROWS_OF.items()}
    return replace(report, **counts)
