"""Figures for print: each chart's specification as SVG and PDF, with vl-convert, on light ground at a fixed width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import vl_convert

from refusal_lens.report.charts import PRINT_WIDTH, vega_config
from refusal_lens.report.views import Figure
from refusal_lens.types import JsonValue

THREADS = 1


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


def script_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, without any network access."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _draw(figure: Figure) -> dict[str, bytes]:
    config: dict[str, JsonValue] = {**vega_config(dark=False), "background": "#ffffff", "padding": 12}
    spec: Mapping[str, JsonValue] = {**figure.spec, "width": max(PRINT_WIDTH, figure.scroll), "config": config}
    svg = vl_convert.vegalite_to_svg(dict(spec))
    return {f"{figure.name}.svg": svg.encode(), f"{figure.name}.pdf": vl_convert.svg_to_pdf(svg)}
