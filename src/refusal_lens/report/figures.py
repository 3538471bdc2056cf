"""Figures as files: each chart's specification to SVG and PDF, with vl-convert, on light ground at a fixed width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import vl_convert

from refusal_lens.report.charts import PRINT_WIDTH, vega_config
from refusal_lens.report.views import Figure
from refusal_lens.rundir import write_atomic
from refusal_lens.types import JsonValue

PUBLIC = 0o644
THREADS = 1


def export_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write `NAME.svg` and `NAME.pdf` for every figure.

    Args:
        figures: The page's figures.
        folder: Where to; made when absent.

    Returns:
        The files, in order.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        written = list(pool.map(partial(_export, folder=folder), figures))
    return [path for pair in written for path in pair]


def script_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, without any network access."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _export(figure: Figure, *, folder: Path) -> tuple[Path, Path]:
    config: dict[str, JsonValue] = {**vega_config(dark=False), "background": "#ffffff", "padding": 12}
    spec: Mapping[str, JsonValue] = {**figure.spec, "width": max(PRINT_WIDTH, figure.scroll), "config": config}
    svg = vl_convert.vegalite_to_svg(dict(spec))
    picture, paper = folder / f"{figure.name}.svg", folder / f"{figure.name}.pdf"
    write_atomic(picture, svg.encode(), mode=PUBLIC)
    write_atomic(paper, vl_convert.svg_to_pdf(svg), mode=PUBLIC)
    return picture, paper
