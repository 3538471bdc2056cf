"""Where prompts lie: activations in two dimensions, and along the shared direction per language."""

from __future__ import annotations

from collections import defaultdict

import altair as alt
import numpy as np

from refusal_lens.report.charts.theme import HARM_COLOURS, ROW, Data, Spec, layered, named, tip, to_spec
from refusal_lens.report.facts import Facts, language_name, nearest
from refusal_lens.report.inputs import Row, count_of, real_of, text_of
from refusal_lens.report.shares import number
from refusal_lens.report.views import Cell, Column, Figure, Table

MOST_POINTS = 2000
EVERYONE = "all languages"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def projection_figure(facts: Facts) -> Figure | None:
    """Scatter of the first two principal components at the selected layer."""
    rows, layer = _at_layer(facts)
    placed = [row for row in rows if real_of(row, "pc1") is not None and real_of(row, "pc2") is not None]
    if not placed:
        return None
    kept = _thinned(placed)
    names = [language_name(code) for code in _languages(facts, placed)]
    data: Data = [
        {
            "x": _rounded(row, "pc1"),
            "y": _rounded(row, "pc2"),
            "class": text_of(row, "harm"),
            "language": language_name(text_of(row, "language")),
        }
        for row in kept
    ]
    left_out = f" {len(kept)} of {len(placed)} prompts are drawn." if len(kept) < len(placed) else ""
    return Figure(
        "projection",
        f"Prompts in two dimensions (layer {layer})",
        _scatter_spec(data, names),
        alt=(
            f"Scatter of {len(kept)} prompts in {len(names)} languages at layer {layer}, by their first two principal"
            " components, harmful and harmless."
        ),
        reading=(
            "Each point is a prompt, placed by the two directions in which activations vary most. Orange diamonds"
            " are harmful prompts, blue circles harmless ones. Choose a language to see it against the others: does"
            f" it split along the same line?{left_out} Two dimensions hide the rest; distances between far groups"
            " mean little."
        ),
        table=_centres(placed, facts),
    )


def along_figure(facts: Facts) -> Figure | None:
    """Quantiles of the projection on the shared direction, harmful against harmless, per language."""
    rows, layer = _at_layer(facts)
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        value = real_of(row, "along")
        if value is not None:
            groups[text_of(row, "language"), text_of(row, "harm")].append(value)
    if not groups:
        return None
    codes = [code for code in _languages(facts, rows) if any(key[0] == code for key in groups)]
    data: Data = []
    lines: list[list[Cell]] = []
    for code in codes:
        line = [Cell(language_name(code))]
        for harm in HARM_COLOURS:
            found = groups.get((code, harm))
            if not found:
                line += [Cell("–"), Cell("–")]
                continue
            low, first, middle, third, high = (float(value) for value in np.quantile(np.asarray(found), QUANTILES))
            data.append(
                {
                    "language": language_name(code),
                    "class": harm,
                    "low": low,
                    "q1": first,
                    "median": middle,
                    "q3": third,
                    "high": high,
                    "n": len(found),
                }
            )
            line += [Cell(number(middle)), Cell(f"{number(low)} to {number(high)}")]
        lines.append(line)
    table = Table(
        "Projection on the shared direction",
        [
            Column("language"),
            *(Column(label, group=harm, numeric=True) for harm in HARM_COLOURS for label in ("median", "5 % to 95 %")),
        ],
        lines,
    )
    gaps = "; ".join(f"{line[0].text} {line[1].text} against {line[3].text}" for line in lines)
    return Figure(
        "separation",
        f"Separation along the shared direction (layer {layer})",
        _range_spec(data, [language_name(code) for code in codes]),
        alt=f"Median projection of harmful against harmless prompts: {gaps}.",
        reading=(
            "How far prompts lie along the shared direction, per language: dot, the median; thick bar, the middle"
            " half; thin line, 5 to 95 %. The wider the gap between orange (harmful) and blue (harmless), the easier"
            " the model can tell them apart there. Where they overlap, harmful prompts fail to look harmful, which is"
            " how the paper explains leaks."
        ),
        table=table,
    )


def _at_layer(facts: Facts) -> tuple[list[Row], int]:
    rows = facts.inputs.rows("projection")
    layers = sorted({count_of(row, "layer") for row in rows})
    if not layers:
        return [], 0
    layer = nearest(layers, facts.selected_layer)
    return [row for row in rows if count_of(row, "layer") == layer], layer


def _languages(facts: Facts, rows: list[Row]) -> list[str]:
    present = {text_of(row, "language") for row in rows}
    return [*(code for code in facts.languages if code in present), *sorted(present - set(facts.languages))]


def _thinned(rows: list[Row]) -> list[Row]:
    """At most `MOST_POINTS` prompts, the same number from every language and class."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[text_of(row, "language"), text_of(row, "harm")].append(row)
    cap = max(1, MOST_POINTS // len(groups))
    return [row for group in groups.values() for row in group[:cap]]


def _centres(rows: list[Row], facts: Facts) -> Table:
    lines: list[list[Cell]] = []
    for code in _languages(facts, rows):
        line = [Cell(language_name(code))]
        for harm in HARM_COLOURS:
            own = [row for row in rows if text_of(row, "language") == code and text_of(row, "harm") == harm]
            for name in ("pc1", "pc2"):
                values = [value for row in own if (value := real_of(row, name)) is not None]
                line.append(Cell(number(float(np.mean(values))) if values else "–"))
        lines.append(line)
    columns = [
        Column(label, group=f"{harm}, mean", numeric=True) for harm in HARM_COLOURS for label in ("PC 1", "PC 2")
    ]
    return Table("Centres of the groups", [Column("language"), *columns], lines)


def _scatter_spec(data: Data, names: list[str]) -> Spec:
    chosen = alt.param(
        name="language_shown", value=EVERYONE, bind=alt.binding_select(options=[EVERYONE, *names], name="Language ")
    )
    domain = list(HARM_COLOURS)
    shown = f"language_shown == '{EVERYONE}' || datum.language == language_shown"
    points = (
        alt.Chart(named())
        .mark_point(filled=True, size=26)
        .encode(
            x=alt.X(
                "x",
                type="quantitative",
                title="first principal component",
                scale=alt.Scale(zero=False),
                axis=alt.Axis(tickCount=5),
            ),
            y=alt.Y(
                "y",
                type="quantitative",
                title="second principal component",
                scale=alt.Scale(zero=False),
                axis=alt.Axis(tickCount=5),
            ),
            color=alt.Color(
                "class",
                type="nominal",
                scale=alt.Scale(domain=domain, range=list(HARM_COLOURS.values())),
                legend=alt.Legend(orient="top", title=None),
            ),
            shape=alt.Shape("class", type="nominal", scale=alt.Scale(domain=domain, range=["diamond", "circle"])),
            opacity=alt.condition(shown, alt.value(0.65), alt.value(0.05)),
            tooltip=[tip("language", "language"), tip("class", "prompts")],
        )
        .add_params(chosen)
    )
    return to_spec(points, {"rows": data}, height=420)


def _range_spec(data: Data, names: list[str]) -> Spec:
    domain = list(HARM_COLOURS)
    for item in data:
        item |= {name: round(value, 4) for name, value in item.items() if isinstance(value, float)}
    colour = alt.Color(
        "class",
        type="nominal",
        scale=alt.Scale(domain=domain, range=list(HARM_COLOURS.values())),
        legend=alt.Legend(orient="top", title=None),
    )
    base = alt.Chart(named()).encode(
        y=alt.Y("language", type="nominal", sort=names, title=None, axis=alt.Axis(grid=False)),
        yOffset=alt.YOffset("class", type="nominal", sort=domain, scale=alt.Scale(domain=domain, paddingInner=0.4)),
        color=colour,
        tooltip=[
            tip("language", "language"),
            tip("class", "prompts"),
            tip("median", "median", ".2f"),
            tip("low", "5 %", ".2f"),
            tip("high", "95 %", ".2f"),
            tip("n", "prompts", "d"),
        ],
    )
    x = alt.X(
        "low",
        type="quantitative",
        title="projection on the shared direction",
        scale=alt.Scale(zero=False),
        axis=alt.Axis(tickCount=6),
    )
    thin = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x=x, x2="high")
    thick = base.mark_rule(strokeWidth=6, opacity=0.5, strokeCap="round").encode(
        x=alt.X("q1", type="quantitative"), x2="q3"
    )
    dots = base.mark_point(filled=True, size=50, opacity=1).encode(
        x=alt.X("median", type="quantitative"),
        shape=alt.Shape("class", type="nominal", scale=alt.Scale(domain=domain, range=["diamond", "circle"])),
    )
    return to_spec(layered(thin, thick, dots), {"rows": data}, height=max(80, (ROW - 4) * len(names)))


def _rounded(row: Row, column: str) -> float | None:
    value = real_of(row, column)
    return None if value is None else float(f"{value:.3g}")
