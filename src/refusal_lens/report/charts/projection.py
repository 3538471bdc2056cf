"""Where prompts lie: activations in two dimensions, and along the shared direction per language."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np

from refusal_lens.core.geometry_tables import PROJECTION, ProjectionRow
from refusal_lens.report.charts.theme import (
    HARM_COLOURS,
    HARM_SHAPES,
    ROW,
    Data,
    Spec,
    coloured,
    free_axis,
    language_rows,
    layered,
    named,
    shaped,
    tips,
    to_spec,
)
from refusal_lens.report.facts import Facts, language_name
from refusal_lens.report.shares import mean, number
from refusal_lens.report.views import Cell, Figure, TableOf

MOST_POINTS = 2000
EVERYONE = "all languages"
HARMS = list(HARM_COLOURS)
QUANTILES = {"low": 0.05, "q1": 0.25, "median": 0.5, "q3": 0.75, "high": 0.95}


@dataclass(frozen=True)
class _Group:
    """The prompts of a language, by class."""

    code: str
    rows: dict[str, list[ProjectionRow]]

    @property
    def name(self) -> str:
        return language_name(self.code)

    def quantiles(self, harm: str) -> dict[str, float]:
        """Quantiles of the prompts' places along the shared direction; empty without prompts."""
        values = [row["along"] for row in self.rows.get(harm, []) if row["along"] is not None]
        if not values:
            return {}
        found = np.quantile(np.asarray(values), list(QUANTILES.values()))
        return {name: round(float(value), 4) for name, value in zip(QUANTILES, found, strict=True)}


def projection_figure(facts: Facts) -> Figure | None:
    """Scatter of the first two principal components at the selected layer."""
    rows = facts.at_layer([row for row in facts.inputs.rows(PROJECTION) if None not in (row["pc1"], row["pc2"])])
    if not rows:
        return None
    groups = _groups(facts, rows)
    cap = max(1, MOST_POINTS // sum(len(group.rows) for group in groups))
    data: Data = [
        {"x": _three(row["pc1"]), "y": _three(row["pc2"]), "class": harm, "language": group.name}
        for group in groups
        for harm, own in group.rows.items()
        for row in own[:cap]
    ]
    left_out = f" {len(data)} of {len(rows)} prompts are drawn." if len(data) < len(rows) else ""
    table = TableOf(groups).words("language", lambda group: group.name)
    for harm in HARMS:
        table.numbers(
            "PC 1", lambda group, harm=harm: mean(row["pc1"] for row in group.rows.get(harm, [])), f"{harm}, mean"
        )
        table.numbers(
            "PC 2", lambda group, harm=harm: mean(row["pc2"] for row in group.rows.get(harm, [])), f"{harm}, mean"
        )
    return Figure(
        "projection",
        f"Prompts in two dimensions (layer {rows[0]['layer']})",
        _scatter_spec(data, [group.name for group in groups]),
        alt=(
            f"Scatter of {len(data)} prompts in {len(groups)} languages at layer {rows[0]['layer']}, by their first two"
            " principal components, harmful and harmless."
        ),
        reading=(
            "Each point is a prompt, placed by the two directions in which activations vary most. Crimson diamonds are"
            " harmful prompts, green circles harmless ones. Choose a language to see it against the others: does it"
            f" split along the same line?{left_out} Two dimensions hide the rest; distances between far groups mean"
            " little."
        ),
        table=table.made("Centres of the groups"),
    )


def along_figure(facts: Facts) -> Figure | None:
    """Quantiles of the projection on the shared direction, harmful against harmless, per language."""
    rows = facts.at_layer([row for row in facts.inputs.rows(PROJECTION) if row["along"] is not None])
    if not rows:
        return None
    groups = _groups(facts, rows)
    data: Data = [
        {"language": group.name, "class": harm, **group.quantiles(harm), "n": len(own)}
        for group in groups
        for harm, own in group.rows.items()
    ]
    table = TableOf(groups).words("language", lambda group: group.name)
    for harm in HARMS:
        table.numbers("median", lambda group, harm=harm: group.quantiles(harm).get("median"), harm)
        table.cells("5 % to 95 %", lambda group, harm=harm: _reach(group, harm), harm)
    gaps = "; ".join(
        f"{group.name} {' against '.join(number(group.quantiles(harm).get('median')) for harm in HARMS)}"
        for group in groups
    )
    return Figure(
        "separation",
        f"Separation along the shared direction (layer {rows[0]['layer']})",
        _range_spec(data, [group.name for group in groups]),
        alt=f"Median projection of harmful against harmless prompts: {gaps}.",
        reading=(
            "How far prompts lie along the shared direction, per language: dot, the median; thick bar, the middle half;"
            " thin line, 5 to 95 %. The wider the gap between crimson (harmful) and green (harmless), the easier the"
            " two are told apart in that language by itself. A language whose crimson lies where the others' green"
            " lies is missed by a threshold that serves the others, however wide its own gap is."
        ),
        table=table.made("Projection on the shared direction"),
    )


def _groups(facts: Facts, rows: Sequence[ProjectionRow]) -> list[_Group]:
    found: dict[str, dict[str, list[ProjectionRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["harm"] in HARMS:
            found[row["language"]][row["harm"]].append(row)
    return [_Group(code, dict(found[code])) for code in facts.ordered(found)]


def _reach(group: _Group, harm: str) -> Cell:
    found = group.quantiles(harm)
    return Cell(f"{number(found['low'])} to {number(found['high'])}", value=found["low"]) if found else Cell("–")


def _three(value: float | None) -> float:
    """Three significant digits are more than a screen shows."""
    return float(f"{value or 0.0:.3g}")


def _scatter_spec(data: Data, names: list[str]) -> Spec:
    choice = alt.binding_select(options=[EVERYONE, *names], name="Language ")
    shown = f"language_shown == '{EVERYONE}' || datum.language == language_shown"
    points = (
        alt.Chart(named())
        .mark_point(filled=True, size=26)
        .encode(
            x=free_axis("x", "first principal component"),
            y=alt.Y("y", type="quantitative", title="second principal component", scale=alt.Scale(zero=False)),
            color=coloured("class", HARM_COLOURS, HARMS),
            shape=shaped("class", HARM_SHAPES, HARMS),
            opacity=alt.condition(shown, alt.value(0.65), alt.value(0.05)),
            tooltip=tips(("language", "language"), ("class", "prompts")),
        )
        .add_params(alt.param(name="language_shown", value=EVERYONE, bind=choice))
    )
    return to_spec(points, {"rows": data}, height=420)


def _range_spec(data: Data, names: list[str]) -> Spec:
    offset = alt.YOffset("class", type="nominal", sort=HARMS, scale=alt.Scale(domain=HARMS, paddingInner=0.4))
    base = alt.Chart(named()).encode(
        y=language_rows(names),
        yOffset=offset,
        color=coloured("class", HARM_COLOURS, HARMS),
        tooltip=tips(
            ("language", "language"),
            ("class", "prompts"),
            ("median", "median", ".2f"),
            ("low", "5 %", ".2f"),
            ("high", "95 %", ".2f"),
            ("n", "prompts", "d"),
        ),
    )
    thin = base.mark_rule(strokeWidth=1.5, opacity=0.6)
    thick = base.mark_rule(strokeWidth=6, opacity=0.5, strokeCap="round")
    dots = base.mark_point(filled=True, size=50, opacity=1)
    chart = layered(
        thin.encode(x=free_axis("low", "projection on the shared direction"), x2="high"),
        thick.encode(x=alt.X("q1", type="quantitative"), x2="q3"),
        dots.encode(x=alt.X("median", type="quantitative"), shape=shaped("class", HARM_SHAPES, HARMS)),
    )
    return to_spec(chart, {"rows": data}, height=max(80, (ROW - 4) * len(names)))
