"""Cosines between languages' directions, layer by layer, with the null that tells whether a cosine means anything.

High cosines alone prove nothing (a model that refuses nothing can have them); the figures show interval and null beside
every value, and leave out layers in which a direction is rounding noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import altair as alt

from refusal_lens.report.charts.theme import Data, Point, Spec, layered, named, tip, to_spec
from refusal_lens.report.facts import Facts, language_name, nearest
from refusal_lens.report.inputs import Row, count_of, real_of, text_of
from refusal_lens.report.shares import mean, number
from refusal_lens.report.views import Cell, Column, Figure, Table

MOST_LAYERS = 24


@dataclass(frozen=True)
class _Pair:
    layer: int
    first: str
    second: str
    row: Row


def cosine_figure(facts: Facts) -> Figure | None:
    """Language by language heat map with a slider over layers."""
    pairs = _pairs(facts)
    if not pairs:
        return None
    order = _order(facts, pairs)
    layers = sorted({pair.layer for pair in pairs})
    start = nearest(layers, facts.selected_layer)
    shown = sorted({*layers[:: ceil(len(layers) / MOST_LAYERS)], start})
    data: Data = [_point(pair) for pair in pairs if pair.layer in shown]
    names = [language_name(code) for code in order]
    at_start = [pair for pair in pairs if pair.layer == start]
    values = [value for pair in at_start if (value := real_of(pair.row, "cosine")) is not None]
    reading = (
        "Each cell compares the harmful-minus-harmless directions of two languages at one layer: 1 means parallel, 0"
        " unrelated. Point at a cell for the interval and the null from shuffled labels. The slider changes the"
        f" layer ({len(shown)} of {len(layers)} layers); it starts at the layer of the selected direction. Cells with"
        " a stroke are rounding noise. Parallel directions are not yet a shared mechanism: the transfer matrix is"
        " the evidence, this is a picture of it."
    )
    return Figure(
        "cosines",
        "How parallel the languages' directions are",
        _map_spec(data, names, shown, start),
        alt=(
            f"Cosines between {len(names)} languages' directions at layer {start}: mean {number(mean(values))}, from"
            f" {number(min(values, default=None))} to {number(max(values, default=None))}."
        ),
        reading=reading,
        table=_table(at_start, order, start),
        scroll=120 + 40 * len(order),
    )


def layers_figure(facts: Facts) -> Figure | None:
    """Mean cosine per layer against the null's band."""
    pairs = [pair for pair in _pairs(facts) if pair.row.get("masked") is not True]
    data: Data = []
    lines: list[list[Cell]] = []
    for layer in sorted({pair.layer for pair in pairs}):
        own = [pair.row for pair in pairs if pair.layer == layer]
        values, nulls_low, nulls_high, bases = (
            [value for row in own if (value := real_of(row, name)) is not None]
            for name in ("cosine", "null_low", "null_high", "base")
        )
        if not values:
            continue
        item = {
            "mean": mean(values),
            "min": min(values),
            "max": max(values),
            "null_low": mean(nulls_low),
            "null_high": mean(nulls_high),
            "base": mean(bases),
        }
        data.append(
            {"layer": layer, **{name: None if value is None else round(value, 4) for name, value in item.items()}}
        )
        lines.append([Cell(str(layer)), *(Cell(number(value)) for value in item.values())])
    if len(data) < 2:
        return None
    selected = facts.selected_layer
    head = ("mean", "smallest", "largest", "null from", "null to", "base model")
    return Figure(
        "cosines-by-layer",
        "The same by layer",
        _line_spec(data, selected),
        alt=(
            f"Mean cosine by layer, from {lines[0][1].text} at layer {lines[0][0].text} to {lines[-1][1].text} at"
            f" layer {lines[-1][0].text}."
        ),
        reading=(
            "Line: mean cosine over all pairs of languages; green band: from the least to the most parallel pair;"
            " grey band: what shuffled labels give; violet dashes: the base model, where one was named. The dashed"
            " line is the layer of the selected direction."
        ),
        table=Table("Cosines by layer", [Column("layer"), *(Column(label, numeric=True) for label in head)], lines),
    )


def _pairs(facts: Facts) -> list[_Pair]:
    found: dict[tuple[int, str, str], _Pair] = {}
    for row in facts.inputs.rows("cosines"):
        layer, first, second = count_of(row, "layer"), text_of(row, "language_a"), text_of(row, "language_b")
        if first and second and first != second:
            found.setdefault((layer, min(first, second), max(first, second)), _Pair(layer, first, second, row))
    return list(found.values())


def _order(facts: Facts, pairs: list[_Pair]) -> list[str]:
    present = {code for pair in pairs for code in (pair.first, pair.second)}
    return [*(code for code in facts.languages if code in present), *sorted(present - set(facts.languages))]


def _point(pair: _Pair) -> Point:
    cosine = real_of(pair.row, "cosine")
    low, high, null_low, null_high = (real_of(pair.row, name) for name in ("low", "high", "null_low", "null_high"))
    return {
        "layer": pair.layer,
        "a": language_name(pair.first),
        "b": language_name(pair.second),
        "cosine": None if cosine is None else round(cosine, 3),
        "text": number(cosine),
        "range": "not given" if low is None or high is None else f"{number(low)} to {number(high)}",
        "null": (
            "not given" if null_low is None or null_high is None else f"{number(null_low)} to {number(null_high)}"
        ),
        "base": number(real_of(pair.row, "base")),
        "masked": pair.row.get("masked") is True,
    }


def _map_spec(data: Data, names: list[str], layers: list[int], start: int) -> Spec:
    chosen = alt.param(
        name="layer_shown",
        value=layers.index(start),
        bind=alt.binding_range(min=0, max=len(layers) - 1, step=1, name="Layer "),
    )
    position = {name: index for index, name in enumerate(names)}
    for item in data:
        first, second = sorted((str(item["a"]), str(item["b"])), key=lambda name: position[name])
        layer = item["layer"]
        assert isinstance(layer, int)
        item |= {"a": first, "b": second, "i": layers.index(layer)}
    base = (
        alt.Chart(named())
        .transform_filter("datum.i == layer_shown")
        .encode(
            x=alt.X(
                "a",
                type="nominal",
                sort=names[:-1],
                scale=alt.Scale(domain=names[:-1]),
                title=None,
                axis=alt.Axis(labelAngle=-38),
            ),
            y=alt.Y("b", type="nominal", sort=names[1:], scale=alt.Scale(domain=names[1:]), title=None),
            tooltip=[
                tip("layer", "layer"),
                tip("a", "language"),
                tip("b", "and"),
                tip("text", "cosine"),
                tip("range", "95 % interval"),
                tip("null", "shuffled labels"),
                tip("base", "base model"),
            ],
        )
    )
    cells = base.mark_rect(cornerRadius=2).encode(
        color=alt.Color(
            "cosine",
            type="quantitative",
            title="cosine",
            scale=alt.Scale(domain=[0, 1], clamp=True, range="ramp", interpolate="rgb"),
            legend=alt.Legend(orient="top", gradientLength=180),
        )
    )
    labels = base.transform_filter("!datum.masked").mark_text(fontSize=10).encode(text=alt.Text("text", type="nominal"))
    noise = base.transform_filter("datum.masked").mark_text(text="╱", fontSize=12, opacity=0.7)
    return to_spec(
        layered(cells, labels, noise).add_params(chosen), {"rows": data}, height=max(80, 27 * (len(names) - 1))
    )


def _line_spec(data: Data, selected: int | None) -> Spec:
    base = alt.Chart(named()).encode(
        x=alt.X("layer", type="quantitative", title="layer", axis=alt.Axis(tickMinStep=1, format="d", grid=False))
    )
    y = alt.Y("mean", type="quantitative", title="cosine", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    null = base.mark_area(opacity=0.22, color="#808080").encode(
        y=alt.Y("null_low", type="quantitative"), y2="null_high"
    )
    spread = base.mark_area(opacity=0.22, color="#2f9c88").encode(y=alt.Y("min", type="quantitative"), y2="max")
    tooltip = [
        tip("layer", "layer"),
        tip("mean", "mean", ".2f"),
        tip("min", "smallest", ".2f"),
        tip("max", "largest", ".2f"),
        tip("null_low", "null from", ".2f"),
        tip("null_high", "null to", ".2f"),
    ]
    line = base.mark_line(
        color="#2f9c88", strokeWidth=2.5, point=alt.OverlayMarkDef(filled=True, size=40, color="#2f9c88")
    ).encode(y=y, tooltip=tooltip)
    layers: list[alt.Chart] = [null, spread, line]
    if any(item["base"] is not None for item in data):
        layers.append(
            base.mark_line(strokeDash=[6, 3], strokeWidth=2, color="#8a6fa8").encode(
                y=alt.Y("base", type="quantitative")
            )
        )
    if selected is not None:
        layers.append(
            alt.Chart(named("selected"))
            .mark_rule(strokeDash=[4, 4], strokeWidth=1.2)
            .encode(x=alt.X("layer", type="quantitative"))
        )
    return to_spec(layered(*layers), {"rows": data, "selected": [{"layer": selected}]}, height=230)


def _table(pairs: list[_Pair], order: list[str], layer: int) -> Table:
    known = {frozenset((pair.first, pair.second)): real_of(pair.row, "cosine") for pair in pairs}
    rows = [
        [
            Cell(language_name(first)),
            *(Cell("1" if first == second else number(known.get(frozenset((first, second))))) for second in order),
        ]
        for first in order
    ]
    return Table(
        f"Cosines at layer {layer}", [Column("language"), *(Column(code, numeric=True) for code in order)], rows
    )
