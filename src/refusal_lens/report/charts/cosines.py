"""Cosines between languages' directions, layer by layer, with the null that tells whether a cosine means anything.

High cosines alone prove nothing (a model that refuses nothing can have them); the figures show interval and null beside
every value, and leave out layers in which a direction is rounding noise.
"""

from __future__ import annotations

from math import ceil

import altair as alt

from refusal_lens.core.geometry_tables import COSINES, CosineRow
from refusal_lens.report.charts.theme import (
    GOLD,
    GROUND_BAND,
    Data,
    Point,
    Spec,
    heat,
    layered,
    named,
    tips,
    to_spec,
)
from refusal_lens.report.facts import Facts, language_name, nearest
from refusal_lens.report.shares import mean, number
from refusal_lens.report.views import Figure, Table, TableOf

MOST_LAYERS = 24


def cosine_figure(facts: Facts) -> Figure | None:
    """Language by language heat map with a slider over layers."""
    pairs = _pairs(facts)
    if not pairs:
        return None
    order = facts.ordered(code for row in pairs for code in (row["language_a"], row["language_b"]))
    layers = sorted({row["layer"] for row in pairs})
    start = nearest(layers, facts.selected_layer)
    shown = sorted({*layers[:: ceil(len(layers) / MOST_LAYERS)], start})
    at_start = [row for row in pairs if row["layer"] == start]
    values = [row["cosine"] for row in at_start if row["cosine"] is not None]
    return Figure(
        "cosines",
        "How parallel the languages' directions are",
        _map_spec([_point(row, order, shown) for row in pairs if row["layer"] in shown], order, shown, start),
        alt=(
            f"Cosines between {len(order)} languages' directions at layer {start}: mean {number(mean(values))}, from"
            f" {number(min(values, default=None))} to {number(max(values, default=None))}."
        ),
        reading=(
            "Each cell compares the harmful-minus-harmless directions of two languages at one layer: 1 means parallel, 0"
            " unrelated. Point at a cell for the interval and the null from shuffled labels. The slider changes the"
            f" layer ({len(shown)} of {len(layers)} layers); it starts at the layer of the selected direction. Cells"
            " with a stroke are rounding noise. Parallel directions are not yet a shared mechanism: the transfer"
            " matrix is the evidence, this is a picture of it."
        ),
        table=_table(at_start, order, start),
        scroll=120 + 40 * len(order),
    )


def layers_figure(facts: Facts) -> Figure | None:
    """Mean cosine per layer against the null's band."""
    pairs = [row for row in _pairs(facts) if not row["masked"] and row["cosine"] is not None]
    summary = [_summary(layer, pairs) for layer in sorted({row["layer"] for row in pairs})]
    if len(summary) < 2:
        return None
    head = {"mean": "mean", "min": "smallest", "max": "largest", "null_low": "null from", "null_high": "null to"}
    table = TableOf(summary).words("layer", lambda row: f"{row['layer']:.0f}")
    for name, label in [*head.items(), ("base", "base model")]:
        table.numbers(label, lambda row, name=name: row[name])
    first, last = summary[0], summary[-1]
    return Figure(
        "cosines-by-layer",
        "The same by layer",
        _line_spec(summary, facts.selected_layer, head),
        alt=(
            f"Mean cosine by layer, from {number(first['mean'])} at layer {first['layer']:.0f} to"
            f" {number(last['mean'])} at layer {last['layer']:.0f}."
        ),
        reading=(
            "Line: mean cosine over all pairs of languages; gold band: from the least to the most parallel pair; grey"
            " band: what shuffled labels give; dashed line: the base model, where one was named. The upright rule is"
            " the layer of the selected direction."
        ),
        table=table.made("Cosines by layer"),
    )


def _pairs(facts: Facts) -> list[CosineRow]:
    found: dict[tuple[int, frozenset[str]], CosineRow] = {}
    for row in facts.inputs.rows(COSINES):
        if row["language_a"] != row["language_b"]:
            found.setdefault((row["layer"], frozenset((row["language_a"], row["language_b"]))), row)
    return list(found.values())


def _summary(layer: int, pairs: list[CosineRow]) -> dict[str, float | None]:
    own = [row for row in pairs if row["layer"] == layer]
    values = [row["cosine"] or 0.0 for row in own]
    return {
        "layer": float(layer),
        "mean": mean(values),
        "min": min(values),
        "max": max(values),
        "null_low": mean(row["null_low"] for row in own),
        "null_high": mean(row["null_high"] for row in own),
        "base": mean(row["base"] for row in own),
    }


def _point(row: CosineRow, order: list[str], layers: list[int]) -> Point:
    first, second = sorted((row["language_a"], row["language_b"]), key=order.index)
    ends, null = (row["low"], row["high"]), (row["null_low"], row["null_high"])
    return {
        "layer": row["layer"],
        "i": layers.index(row["layer"]),
        "a": language_name(first),
        "b": language_name(second),
        "cosine": None if row["cosine"] is None else round(row["cosine"], 3),
        "text": number(row["cosine"]),
        "range": "not given" if None in ends else " to ".join(map(number, ends)),
        "null": "not given" if None in null else " to ".join(map(number, null)),
        "base": number(row["base"]),
        "masked": row["masked"] is True,
    }


def _map_spec(data: Data, order: list[str], layers: list[int], start: int) -> Spec:
    names = [language_name(code) for code in order]
    chosen = alt.param(
        name="layer_shown",
        value=layers.index(start),
        bind=alt.binding_range(min=0, max=len(layers) - 1, step=1, name="Layer "),
    )
    across, down = alt.Scale(domain=names[:-1]), alt.Scale(domain=names[1:])
    base = (
        alt.Chart(named())
        .transform_filter("datum.i == layer_shown")
        .encode(
            x=alt.X("a", type="nominal", sort=names[:-1], scale=across, title=None, axis=alt.Axis(labelAngle=-38)),
            y=alt.Y("b", type="nominal", sort=names[1:], scale=down, title=None),
            tooltip=tips(
                ("layer", "layer"),
                ("a", "language"),
                ("b", "and"),
                ("text", "cosine"),
                ("range", "95 % interval"),
                ("null", "shuffled labels"),
                ("base", "base model"),
            ),
        )
    )
    cells = base.mark_rect(cornerRadius=2).encode(color=heat("cosine", "cosine", [0.0, 1.0], ramp="ramp"))
    labels = base.transform_filter("!datum.masked").mark_text(fontSize=10).encode(text=alt.Text("text", type="nominal"))
    noise = base.transform_filter("datum.masked").mark_text(text="╱", fontSize=12, opacity=0.7)
    chart = layered(cells, labels, noise).add_params(chosen)
    return to_spec(chart, {"rows": data}, height=max(80, 27 * (len(names) - 1)))


def _line_spec(summary: list[dict[str, float | None]], selected: int | None, head: dict[str, str]) -> Spec:
    data: Data = [{name: None if value is None else round(value, 4) for name, value in row.items()} for row in summary]
    axis = alt.Axis(tickMinStep=1, format="d", grid=False)
    base = alt.Chart(named()).encode(x=alt.X("layer", type="quantitative", title="layer", axis=axis))

    def y(field: str) -> alt.Y:
        return alt.Y(field, type="quantitative", title="cosine", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))

    dot = alt.OverlayMarkDef(filled=True, size=40, color=GOLD)
    tooltip = tips(("layer", "layer"), *((name, label, ".2f") for name, label in head.items()))
    layers: list[alt.Chart] = [
        base.mark_area(opacity=0.22, color=GROUND_BAND).encode(y=y("null_low"), y2="null_high"),
        base.mark_area(opacity=0.22, color=GOLD).encode(y=y("min"), y2="max"),
        base.mark_line(color=GOLD, strokeWidth=2.5, point=dot).encode(y=y("mean"), tooltip=tooltip),
    ]
    if any(row["base"] is not None for row in summary):
        layers.append(base.mark_line(strokeDash=[6, 3], strokeWidth=2, color=GROUND_BAND).encode(y=y("base")))
    if selected is not None:
        rule = alt.Chart(named("selected")).mark_rule(strokeDash=[4, 4], strokeWidth=1.2)
        layers.append(rule.encode(x=alt.X("layer", type="quantitative")))
    return to_spec(layered(*layers), {"rows": data, "selected": [{"layer": selected}]}, height=230)


def _table(pairs: list[CosineRow], order: list[str], layer: int) -> Table | None:
    known = {frozenset((row["language_a"], row["language_b"])): row["cosine"] for row in pairs}
    table = TableOf(order).words("language", language_name)
    for other in order:
        table.numbers(
            language_name(other),
            lambda code, other=other: 1.0 if code == other else known.get(frozenset((code, other))),
        )
    return table.made(f"Cosines at layer {layer}")
