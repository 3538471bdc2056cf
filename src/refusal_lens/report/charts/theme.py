"""The look shared by every chart: colours, fonts, sizes; one configuration for light paper and one for dark screens.

Series colours are from the Okabe-Ito family (distinguishable with any colour vision) at middle lightness, so that they hold
on both grounds; series differ in shape as well. Heat maps end at middle lightness, so that ink stays readable on every cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

import altair as alt

from refusal_lens.types import JsonValue

AnyChart: TypeAlias = alt.Chart | alt.LayerChart
Spec: TypeAlias = Mapping[str, JsonValue]
Point: TypeAlias = dict[str, JsonValue]
Data: TypeAlias = list[Point]

FONT = 'Inter, "Segoe UI", system-ui, -apple-system, Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'
PRINT_WIDTH = 760
ROW = 34

UNTOUCHED, ABLATED, ADDED, RANDOM = "untouched", "direction ablated", "direction added", "random direction"
COLOURS = {UNTOUCHED: "#6f7885", ABLATED: "#d9601a", ADDED: "#2b83c6", RANDOM: "#9d78ae"}
TICK = "M-0.2,-1L0.2,-1L0.2,1L-0.2,1Z"
SHAPES = {UNTOUCHED: "circle", ABLATED: "diamond", ADDED: "square", RANDOM: TICK}
HARM_COLOURS = {"harmful": "#d9601a", "harmless": "#2b83c6"}


@dataclass(frozen=True)
class _Ground:
    ink: str
    soft: str
    line: str
    diverging: tuple[str, ...]
    ramp: tuple[str, ...]


LIGHT = _Ground(
    "#1e2126",
    "#5d6470",
    "#e3dfd6",
    ("#6aa9dd", "#bcd8ee", "#f3f0e9", "#f3c7a3", "#e58a4c"),
    ("#f3f0e9", "#bfe0d6", "#57b3a1"),
)
DARK = _Ground(
    "#eceae4",
    "#a7abb3",
    "#343840",
    ("#2f73ad", "#27486a", "#262930", "#6e4327", "#b85a1e"),
    ("#262930", "#24564f", "#218373"),
)


def vega_config(*, dark: bool) -> Spec:
    """Vega-Lite configuration of a ground.

    Args:
        dark: For dark screens; otherwise for paper and light screens.

    Returns:
        The value of a specification's `config`.
    """
    ground = DARK if dark else LIGHT
    axis: dict[str, JsonValue] = {
        "labelColor": ground.soft,
        "titleColor": ground.soft,
        "domainColor": ground.line,
        "gridColor": ground.line,
        "tickColor": ground.line,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "labelPadding": 6,
        "domain": False,
        "ticks": False,
    }
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis,
        "axisY": {"labelColor": ground.ink, "labelLimit": 160},
        "legend": {
            "labelColor": ground.ink,
            "titleColor": ground.soft,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "symbolSize": 80,
            "symbolOpacity": 1,
        },
        "text": {"color": ground.ink, "fontSize": 11},
        "rule": {"color": ground.soft},
        "range": {"diverging": list(ground.diverging), "ramp": list(ground.ramp)},
    }


def to_spec(chart: AnyChart, data: Mapping[str, Data], *, height: int) -> Spec:
    """A chart as a specification that fills its container.

    Args:
        chart: The chart, on named data.
        data: Rows by name; kept out of altair, which would copy and check every row.
        height: Inner height in pixels.

    Returns:
        Vega-Lite JSON without configuration; page and export add it.
    """
    sized = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    return {**cast("Spec", sized.to_dict(validate=False)), "datasets": cast("JsonValue", dict(data))}


def layered(*charts: alt.Chart) -> alt.LayerChart:
    """Charts on top of each other, the first at the bottom."""
    return alt.LayerChart(layer=list(charts))


def named(name: str = "rows") -> alt.NamedData:
    """Chart data by name; `to_spec` brings the rows."""
    return alt.NamedData(name=name)


def tip(field: str, title: str, form: str | None = None) -> alt.Tooltip:
    """One line of a tooltip; numeric when it has a format."""
    return (
        alt.Tooltip(field, type="nominal", title=title)
        if form is None
        else alt.Tooltip(field, type="quantitative", title=title, format=form)
    )
