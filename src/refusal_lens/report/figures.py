"""Figures as files: each chart as SVG, PDF and PNG, with vl-convert, on light ground at a fixed width; its rows as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import cast

import vl_convert

from refusal_lens.core.files import PUBLIC_FILE, make_folder, write_atomic
from refusal_lens.report.charts import PRINT_WIDTH, vega_config
from refusal_lens.report.views import Figure
from refusal_lens.types import JsonValue

THREADS = 1
FORMULA = ("=", "+", "@", "-", "\t", "\r")


def draw_figures(figures: Sequence[Figure]) -> dict[str, bytes]:
    """Draw `NAME.svg` and `NAME.pdf` of every figure.

    Args:
        figures: The page's figures.

    Returns:
        Content by file name, in order.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        drawn = list(pool.map(_draw, figures))
    return {name: content for files in drawn for name, content in files.items()}


def save_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write `NAME.svg`, `.pdf`, `.png` and `.csv` of every figure.

    Args:
        figures: The page's figures.
        folder: Where they go; made where it is missing.

    Returns:
        The files.

    Raises:
        StorageError: A file cannot be written.
    """
    files = draw_figures(figures)
    for figure in figures:
        files[f"{figure.name}.png"] = vl_convert.svg_to_png(files[f"{figure.name}.svg"].decode(), scale=2.0)
        files[f"{figure.name}.csv"] = figure_csv(figure)
    make_folder(folder)
    for name, content in files.items():
        write_atomic(folder / name, content, mode=PUBLIC_FILE)
    return [folder / name for name in files]


def figure_csv(figure: Figure) -> bytes:
    """The rows that a figure draws, every data set of it, as CSV; the page saves the same.

    Text that a spreadsheet would take for a formula is quoted with an apostrophe.
    """
    found = figure.spec.get("datasets")
    sets = cast("Mapping[str, list[Mapping[str, JsonValue]]]", found if isinstance(found, dict) else {})
    rows = [{"set": name, **row} if len(sets) > 1 else dict(row) for name, own in sets.items() for row in own]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(row.get(column)) for column in columns] for row in rows)
    return buffer.getvalue().encode("utf-8", errors="replace")


def _csv_cell(value: JsonValue) -> JsonValue:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def script_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, without any network access."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _draw(figure: Figure) -> dict[str, bytes]:
    config: dict[str, JsonValue] = {**vega_config(dark=False), "background": "#ffffff", "padding": 12}
    own: Mapping[str, JsonValue] = {"width": max(PRINT_WIDTH, figure.scroll)} if "width" in figure.spec else {}
    spec: Mapping[str, JsonValue] = {**figure.spec, **own, "config": config}  # panels have a width of their own
    drawn = vl_convert.vegalite_to_svg(dict(spec))
    svg = drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.alt)}" ', 1)
    return {f"{figure.name}.svg": svg.encode(), f"{figure.name}.pdf": vl_convert.svg_to_pdf(svg)}
