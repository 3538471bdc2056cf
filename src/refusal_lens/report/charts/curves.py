"""A monitor's misses against its false alarms, a panel a language: its curve, its best null's, and where its threshold stands.

Both axes are square roots, so that 1 % and 5 % are told apart and 0 % can still be shown. Data from the tables `curves` and
`evaluation` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import altair as alt

from refusal_lens.report.charts.theme import Data, Spec, named, tips
from refusal_lens.types import JsonValue

CURVE, NULL = "the monitor", "its best null"
PANEL, ACROSS = 138, 5
TICKS = (0, 0.05, 0.25, 1)


def curves_width(languages: int) -> int:
    """Width in pixels that so many panels take."""
    return min(ACROSS, languages) * (PANEL + 20) + 70


def curves_spec(rows: Data, languages: Sequence[str]) -> Spec:
    """The picture as Vega-Lite JSON without configuration.

    Args:
        rows: Corners (`kind` is curve) and thresholds (`kind` is threshold): language, series, reached, false_alarm, miss,
            corner, and for a threshold low, high, alarm_low, alarm_high, n.
        languages: Names in the order of the panels.

    Returns:
        A specification on the data set `rows`.
    """
    axis = alt.Axis(format="%", values=list(TICKS), labelFontSize=10, titleFontSize=11, titlePadding=4)
    scale = alt.Scale(type="sqrt", domain=[0, 1], nice=False)
    x = alt.X("false_alarm", type="quantitative", title="harmless flagged", scale=scale, axis=axis)
    y = alt.Y("miss", type="quantitative", title="harmful missed", scale=scale, axis=axis)
    series = [CURVE, NULL]
    colour = alt.Color(
        "series",
        type="nominal",
        scale=alt.Scale(domain=series),
        legend=alt.Legend(orient="top", title=None, symbolType="stroke", symbolStrokeWidth=2.4),
    )
    dash = alt.StrokeDash(
        "series", type="nominal", scale=alt.Scale(domain=series, range=[[1, 0], [4, 3]]), legend=alt.Legend(title=None)
    )
    corners = alt.Chart().transform_filter("datum.kind === 'curve'")
    lines = corners.mark_line(strokeWidth=2, interpolate="linear").encode(
        x=x, y=y, color=colour, strokeDash=dash, order=alt.Order("corner", type="quantitative")
    )
    held = corners.mark_point(size=70, opacity=0, filled=True).encode(
        x=x,
        y=y,
        tooltip=tips(
            ("language", "language"),
            ("series", "curve"),
            ("reached", "AUROC"),
            ("false_alarm", "harmless flagged", ".1%"),
            ("miss", "harmful missed", ".1%"),
        ),
    )
    at = alt.Chart().transform_filter("datum.kind === 'threshold'")
    spans = at.mark_rule(strokeWidth=1.4).encode(x=x, y=alt.Y("low", type="quantitative", title=None), y2="high")
    across = at.mark_rule(strokeWidth=1.4).encode(
        y=y, x=alt.X("alarm_low", type="quantitative", title=None), x2="alarm_high"
    )
    marks = at.mark_point(shape="diamond", filled=True, size=90, opacity=1).encode(
        x=x,
        y=y,
        color=colour,
        tooltip=tips(
            ("language", "language"),
            ("calibration", "threshold from"),
            ("miss", "harmful missed", ".1%"),
            ("low", "from", ".1%"),
            ("high", "to", ".1%"),
            ("n", "of", "d"),
            ("false_alarm", "harmless flagged", ".1%"),
            ("alarm_low", "from", ".1%"),
            ("alarm_high", "to", ".1%"),
            ("n_harmless", "of", "d"),
        ),
    )
    layers = alt.LayerChart(layer=[lines, spans, across, marks, held]).properties(width=PANEL, height=PANEL)
    facet = alt.Facet("language", type="nominal", sort=list(languages), title=None)
    chart = alt.FacetChart(data=named(), spec=layers, facet=facet, columns=min(ACROSS, len(languages)))
    return {**cast("Spec", chart.to_dict(validate=False)), "datasets": cast("JsonValue", {"rows": rows})}
