"""Why languages leak: separation along the shared direction against baseline compliance, each language by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import altair as alt

from refusal_lens.core.geometry_tables import SEPARATION, SeparationRow
from refusal_lens.report.charts.theme import (
    TIER_COLOURS,
    TIER_SHAPES,
    Data,
    Spec,
    coloured,
    layered,
    named,
    shaped,
    tips,
    to_spec,
)
from refusal_lens.report.facts import Facts, language_name
from refusal_lens.report.shares import number, percent
from refusal_lens.report.views import Figure, Table, TableOf

HEIGHT = 380
WIDTH = 640
LABEL_HEIGHT = 15
MEASURES = {
    "margin": "margin: distance of harmful prompts above the threshold that the other languages share",
    "d_prime": "d′: distance between harmful and harmless, in standard deviations",
    "auc": "AUC: harmful against harmless",
}
_Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Point:
    name: str
    tier: str
    x: float
    y: float


def separation_rows(facts: Facts) -> list[SeparationRow]:
    """Rows of the separation table at the layer of the selected direction, in the page's language order."""
    found = {row["language"]: row for row in facts.at_layer(facts.inputs.rows(SEPARATION))}
    return [found[code] for code in facts.ordered(found)]


def leak_figure(facts: Facts) -> Figure | None:
    """Scatter of separation and leaking."""
    rows = separation_rows(facts)
    measure = next((name for name in MEASURES if any(row[name] is not None for row in rows)), None)
    if measure is None:
        return None
    points = [
        _Point(language_name(row["language"]), row["tier"] if row["tier"] in TIER_COLOURS else "unknown", x, y)
        for row in rows
        if (x := row[measure]) is not None and (y := row["baseline_compliance"]) is not None
    ]
    if len(points) < 2:
        return None
    described = "; ".join(f"{point.name} {number(point.x)}, {percent(point.y)}" for point in points)
    return Figure(
        "leak",
        "Separation and leaking",
        _spec(points, MEASURES[measure]),
        alt=f"Languages by separation ({measure}) and share of harmful prompts answered: {described}.",
        reading=(
            "Each point is a language: to the right, harmful prompts stand out more along the shared direction;"
            " upwards, the untouched model answers more of them. If weak separation explained leaks, the points would"
            " fall from upper left to lower right. A handful of related languages can suggest this, not prove it."
        ),
        table=separation_table(facts),
    )


def separation_table(facts: Facts) -> Table | None:
    """Separation, margin, silhouette and baseline compliance per language."""
    rows = separation_rows(facts)
    if not rows:
        return None
    return (
        TableOf(rows)
        .words("language", lambda row: language_name(row["language"]))
        .words("resources", lambda row: row["tier"] or "–")
        .numbers("AUC", lambda row: row["auc"])
        .numbers("d′", lambda row: row["d_prime"])
        .numbers("margin", lambda row: row["margin"])
        .numbers("silhouette", lambda row: row["silhouette"])
        .numbers("silhouette along the direction", lambda row: row["silhouette_along"])
        .shares("harmful answered, untouched", lambda row: row["baseline_compliance"])
        .made(f"Separation at layer {rows[0]['layer']}")
    )


def _spec(points: list[_Point], title: str) -> Spec:
    top = min(1.0, max(0.1, *(point.y for point in points)) * 1.08)
    places = _label_places(points, top)
    data: Data = [
        {
            "language": point.name,
            "tier": point.tier,
            "x": round(point.x, 4),
            "y": round(point.y, 4),
            "side": side,
            "shift": shift,
        }
        for point, (side, shift) in zip(points, places, strict=True)
    ]
    tiers = [tier for tier in TIER_COLOURS if any(point.tier == tier for point in points)]
    x = alt.Scale(zero=False, padding=50, nice=False)
    y = alt.Scale(domain=[0, top], nice=False)
    base = alt.Chart(named()).encode(
        x=alt.X("x", type="quantitative", title=title, scale=x, axis=alt.Axis(tickCount=6)),
        y=alt.Y(
            "y",
            type="quantitative",
            title="harmful prompts answered, untouched",
            scale=y,
            axis=alt.Axis(format="%", tickCount=5),
        ),
        tooltip=tips(
            ("language", "language"), ("tier", "resources"), ("x", "separation", ".2f"), ("y", "answered", ".1%")
        ),
    )
    dots = base.mark_point(filled=True, size=80, opacity=0.9)
    layers: list[alt.Chart] = [
        dots.encode(
            color=coloured("tier", TIER_COLOURS, tiers, title="language resources"),
            shape=shaped("tier", TIER_SHAPES, tiers, title="language resources"),
        )
    ]
    for side, shift in sorted(set(places)):
        chosen = base.transform_filter(f"datum.side == '{side}' && datum.shift == {shift}")
        if abs(shift) > LABEL_HEIGHT:
            sign = 1 if shift > 0 else -1
            rule = chosen.mark_rule(strokeWidth=0.8, opacity=0.6, yOffset=4 * sign, y2Offset=shift - 7 * sign)
            layers.append(rule.encode(y2="y"))
        words = {
            "left": chosen.mark_text(align="right", dx=-8, dy=shift),
            "right": chosen.mark_text(align="left", dx=8, dy=shift),
            "middle": chosen.mark_text(align="center", dy=shift),
        }[side]
        layers.append(words.encode(text=alt.Text("language", type="nominal")))
    return to_spec(layered(*layers), {"rows": data}, height=HEIGHT)


def _label_places(points: list[_Point], top: float) -> list[tuple[str, int]]:
    """For each point: side of its label and the label's vertical shift in pixels, so that labels keep clear of each other."""
    xs = [point.x for point in points]
    reach = (max(xs) - min(xs)) or 1.0
    dots = [((point.x - min(xs)) / reach * (WIDTH - 100) + 50, (1 - point.y / top) * HEIGHT) for point in points]
    boxes = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    options = [
        ("right", 0),
        ("left", 0),
        *(("middle", sign * step * LABEL_HEIGHT) for step in range(1, 8) for sign in (-1, 1)),
    ]
    taken: list[_Box] = []
    places: list[tuple[str, int]] = []
    for index, ((x, y), point) in enumerate(zip(dots, points, strict=True)):
        others = [*taken, *(own for other, own in enumerate(boxes) if other != index)]
        priced: list[tuple[float, int, _Box]] = []
        for place, (side, shift) in enumerate(options):
            box = _label_box(x, y, side, shift, width=7.0 * len(point.name))
            outside = 400.0 if box[3] > HEIGHT + 6 or box[1] < -6 else 0.0
            priced.append((sum(_overlap(box, other) for other in others) + 0.6 * abs(shift) + outside, place, box))
        _, best, box = min(priced)
        taken.append(box)
        places.append(options[best])
    return places


def _label_box(x: float, y: float, side: str, shift: int, *, width: float) -> _Box:
    left = {"right": x + 8, "left": x - 8 - width, "middle": x - width / 2}[side]
    return left, y + shift - LABEL_HEIGHT / 2, left + width, y + shift + LABEL_HEIGHT / 2


def _overlap(first: _Box, second: _Box) -> float:
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    return across * down if across > 0 and down > 0 else 0.0
