"""The look shared by every chart: colours with one meaning each, scales, and one configuration for light and for dark.

Hues are from the Okabe-Ito family at middle lightness (told apart with any colour vision, on both grounds); series differ
in shape as well. A colour means one thing on the whole page:

    grey     the untouched model            orange   ablation, and answering more
    violet   random directions              blue     addition, and refusing more
    crimson  harmful prompts                green    harmless prompts
    gold     cosines                        olive    a language's resources
    ink      a monitor
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
SHAPES = {UNTOUCHED: "circle", ABLATED: "diamond", ADDED: "square", RANDOM: "M-0.2,-1L0.2,-1L0.2,1L-0.2,1Z"}
HARM_COLOURS = {"harmful": "#b8325f", "harmless": "#2f9c78"}
HARM_SHAPES = {"harmful": "diamond", "harmless": "circle"}
TIER_COLOURS = {"high": "#a9ad62", "medium": "#7f8433", "low": "#565a16", "unknown": "#8f8f8f"}
TIER_SHAPES = {"high": "circle", "medium": "square", "low": "triangle-up", "unknown": "cross"}
GOLD, GROUND_BAND = "#b98a1d", "#808080"


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
    ("#f3f0e9", "#ecd9a4", "#d6a93a"),
)
DARK = _Ground(
    "#eceae4",
    "#a7abb3",
    "#343840",
    ("#2f73ad", "#27486a", "#262930", "#6e4327", "#b85a1e"),
    ("#262930", "#57451d", "#8f6c18"),
)


def vega_config(*, dark: bool) -> Spec:
    """Vega-Lite configuration of a ground: for dark screens, or for paper and light screens."""
    ground = DARK if dark else LIGHT
    titles: dict[str, JsonValue] = {"titleColor": ground.soft, "titleFontSize": 12, "titleFontWeight": "normal"}
    axis: dict[str, JsonValue] = {
        **titles,
        "labelColor": ground.soft,
        "domainColor": ground.line,
        "gridColor": ground.line,
        "tickColor": ground.line,
        "labelFontSize": 12,
        "titlePadding": 10,
        "labelPadding": 6,
        "domain": False,
        "ticks": False,
    }
    legend: dict[str, JsonValue] = {
        **titles,
        "labelColor": ground.ink,
        "labelFontSize": 12,
        "symbolSize": 80,
        "symbolOpacity": 1,
    }
    return {
        "background": None,
        "aria": False,  # a chart is one image with a text of its own; a layer without marks was an image without a name
        "mark": {"aria": False},
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis,
        "axisY": {"labelColor": ground.ink, "labelLimit": 160},
        "header": {"labelColor": ground.ink, "labelFontSize": 12},
        "legend": legend,
        "text": {"color": ground.ink, "fontSize": 11},
        "rule": {"color": ground.soft},
        "range": {
            "diverging": list(ground.diverging),
            "ramp": list(ground.ramp),
            "category": [ground.ink, COLOURS[RANDOM]],  # of a monitor and its null: every other series names its colour
        },
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


def tips(*lines: tuple[str, str] | tuple[str, str, str]) -> list[alt.Tooltip]:
    """A tooltip from (field, title) lines; a line with a format is a number."""
    return [
        alt.Tooltip(line[0], type="nominal", title=line[1])
        if len(line) == 2
        else alt.Tooltip(line[0], type="quantitative", title=line[1], format=line[2])
        for line in lines
    ]


def language_rows(names: Sequence[str]) -> alt.Y:
    """One row per language, in this order."""
    order = list(names)
    axis = alt.Axis(grid=False)
    return alt.Y("language", type="nominal", sort=order, scale=alt.Scale(domain=order), title=None, axis=axis)


def share_axis(field: str, title: str) -> alt.X:
    """A share from 0 to 100 % across."""
    axis = alt.Axis(format="%", tickCount=5)
    return alt.X(field, type="quantitative", title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def free_axis(field: str, title: str) -> alt.X:
    """A number across, not forced to begin at zero."""
    axis = alt.Axis(tickCount=6)
    return alt.X(field, type="quantitative", title=title, scale=alt.Scale(zero=False), axis=axis)


def coloured(field: str, colours: Mapping[str, str], present: Sequence[str], *, title: str | None = None) -> alt.Color:
    """Colour by name, for the names that are there, with a legend above."""
    order = list(present)
    scale = alt.Scale(domain=order, range=[colours[name] for name in order])
    return alt.Color(field, type="nominal", scale=scale, legend=alt.Legend(orient="top", title=title, labelLimit=240))


def shaped(field: str, shapes: Mapping[str, str], present: Sequence[str], *, title: str | None = None) -> alt.Shape:
    """Shape by name; a legend with the title of the colours' becomes one with it."""
    order = list(present)
    scale = alt.Scale(domain=order, range=[shapes[name] for name in order])
    return alt.Shape(field, type="nominal", scale=scale, legend=alt.Legend(orient="top", title=title, labelLimit=240))


def heat(field: str, title: str, domain: Sequence[float], *, ramp: str) -> alt.Color:
    """A number as colour, on one of the ground's ramps (`diverging` or `ramp`), clamped to its domain."""
    scale = alt.Scale(domain=list(domain), range=cast("list[str]", ramp), interpolate="rgb", clamp=True)
    return alt.Color(
        field, type="quantitative", title=title, scale=scale, legend=alt.Legend(orient="top", gradientLength=200)
    )
