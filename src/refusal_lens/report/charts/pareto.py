"""What a defence costs and what it saves: over-refusal across, attack success up, a mark for each defence and attacker.

Both are means over languages with every language's range. Down and to the left is better; a defence that another one beats in
both under the same attackers is drawn pale. Data from the table `bench_selectivity` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import cast

import altair as alt
import vl_convert

from refusal_lens.core.table import Fields
from refusal_lens.report.charts.theme import PRINT_WIDTH, Data, Point, Spec, named, tips, to_spec, vega_config
from refusal_lens.types import JsonValue

CLASSES: Mapping[str, tuple[str, ...]] = {
    "no attack": ("none",),
    "prompt only (worst)": ("other-language", "code-switch", "role-play"),
    "activations (worst)": ("ablate-english", "ablate-own", "ablate-reextracted"),
    "weights (worst)": ("folded", "attenuated", "removed"),
}
COLOURS = dict(zip(CLASSES, ("#6f7885", "#2b83c6", "#d9601a", "#b8325f"), strict=True))
SHAPES = dict(zip(CLASSES, ("circle", "square", "diamond", "triangle-up"), strict=True))
HEIGHT = 380


def pareto_points(rows: Sequence[Fields]) -> Data:
    """One point per defence and class of attackers, the attacker of the class with the most success.

    Args:
        rows: Rows of the table `bench_selectivity`.

    Returns:
        The points; `pareto` says that no other defence is better in both under the same class.
    """
    by_cell: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        success, over = cast("float | None", row["attack_success"]), cast("float | None", row["overrefusal"])
        if success is not None and over is not None and ":random-" not in str(row["defence"]):
            by_cell.setdefault((str(row["defence"]), str(row["attack"])), []).append((success, over))
    points: Data = []
    for defence in dict.fromkeys(name for name, _ in by_cell):
        for title, attacks in CLASSES.items():
            found = {attack: by_cell[defence, attack] for attack in attacks if (defence, attack) in by_cell}
            if found:
                worst = max(found, key=lambda attack: fmean(success for success, _ in found[attack]))
                point: Point = {
                    "defence": defence,
                    "class": title,
                    "attack": worst,
                    "success": fmean(success for success, _ in found[worst]),
                    "overrefusal": fmean(over for _, over in found[worst]),
                }
                points.append(point)
    for point in points:
        rivals = [other for other in points if other["class"] == point["class"]]
        point["pareto"] = not any(_better(other, point) for other in rivals)
    return points


def pareto_spec(rows: Sequence[Fields]) -> Spec:
    """The picture as Vega-Lite JSON without configuration."""
    points = pareto_points(rows)
    x = alt.X(
        "overrefusal",
        type="quantitative",
        title="harmless prompts refused, mean of languages",
        axis=alt.Axis(format="%", tickCount=5),
    )
    y = alt.Y(
        "success",
        type="quantitative",
        title="harmful prompts answered, mean of languages",
        axis=alt.Axis(format="%", tickCount=5),
        scale=alt.Scale(domain=[0, 1]),
    )
    present = [title for title in CLASSES if any(point["class"] == title for point in points)]
    colour = alt.Color(
        "class",
        type="nominal",
        title=None,
        scale=alt.Scale(domain=present, range=[COLOURS[title] for title in present]),
        legend=alt.Legend(orient="top", labelLimit=240),
    )
    shape = alt.Shape(
        "class",
        type="nominal",
        title=None,
        scale=alt.Scale(domain=present, range=[SHAPES[title] for title in present]),
        legend=alt.Legend(orient="top", labelLimit=240),
    )
    pale = alt.condition("datum.pareto", alt.value(1.0), alt.value(0.35))
    marks = (
        alt.Chart(named())
        .mark_point(filled=True, size=110)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=shape,
            opacity=pale,
            tooltip=tips(
                ("defence", "defence"),
                ("attack", "attacker"),
                ("success", "harmful answered", ".1%"),
                ("overrefusal", "harmless refused", ".1%"),
            ),
        )
    )
    names = (
        alt.Chart(named())
        .mark_text(align="left", dx=9, fontSize=11)
        .encode(x=x, y=y, text=alt.Text("defence", type="nominal"), opacity=pale)
    )
    return to_spec(alt.LayerChart(layer=[marks, names]), {"rows": points}, height=HEIGHT)


def draw_pareto(rows: Sequence[Fields]) -> dict[str, bytes]:
    """The picture as `pareto.svg` and as a page of its own, `pareto.html`, which needs no network.

    Args:
        rows: Rows of the table `bench_selectivity`.

    Returns:
        Content by file name.
    """
    config: dict[str, JsonValue] = {**vega_config(dark=False), "background": "#ffffff", "padding": 12}
    spec: dict[str, JsonValue] = {**pareto_spec(rows), "width": PRINT_WIDTH, "config": config}
    return {
        "pareto.svg": vl_convert.vegalite_to_svg(spec).encode(),
        "pareto.html": vl_convert.vegalite_to_html(spec, bundle=True).encode(),
    }


def _better(other: Point, point: Point) -> bool:
    """Whether another point is as good in both and better in one."""
    pairs = [(cast("float", other[name]), cast("float", point[name])) for name in ("success", "overrefusal")]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
