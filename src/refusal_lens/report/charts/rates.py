"""Compliance and refusal per language: a dot with its interval for each condition, a tick for each random direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import altair as alt

from refusal_lens.report.charts.theme import (
    ABLATED,
    ADDED,
    COLOURS,
    RANDOM,
    ROW,
    SHAPES,
    UNTOUCHED,
    Data,
    Point,
    Spec,
    layered,
    named,
    tip,
    to_spec,
)
from refusal_lens.report.facts import Facts, HeadlineRow
from refusal_lens.report.shares import NullShare, Share, percent
from refusal_lens.report.views import Cell as TableCell
from refusal_lens.report.views import Column, Figure, Table, null_cell, share_cell

Reader = Callable[[HeadlineRow], Share | None]


def harmful_figure(facts: Facts) -> Figure | None:
    """Harmful prompts answered: untouched, ablated, random."""
    return _figure(
        facts.headline,
        name="rates-harmful",
        title="Harmful prompts answered",
        axis="share of harmful prompts answered",
        before=lambda row: row.harmful_baseline,
        after=lambda row: row.harmful_ablated,
        series=ABLATED,
        null=lambda row: row.harmful_random,
        reading=(
            "Each row is a language. Grey circle: the untouched model. Orange diamond: the same model with the"
            " direction ablated. Bars are 95 % intervals. Violet ticks: random directions of the same size, one tick"
            " each; a real effect lies far from them. Further right means more harmful prompts answered."
        ),
    )


def harmless_figure(facts: Facts) -> Figure | None:
    """Harmless prompts refused: untouched, added, random."""
    return _figure(
        facts.headline,
        name="rates-harmless",
        title="Harmless prompts refused",
        axis="share of harmless prompts refused",
        before=lambda row: row.harmless_baseline,
        after=lambda row: row.harmless_added,
        series=ADDED,
        null=lambda row: row.harmless_random,
        reading=(
            "Grey circle: over-refusal of the untouched model. Blue square: the same prompts with the direction"
            " added. Violet ticks: random directions added. If the direction means refusal in a language, the square"
            " moves right and the ticks stay. Answers that could not be judged count in neither."
        ),
    )


def _figure(
    rows: Sequence[HeadlineRow],
    *,
    name: str,
    title: str,
    axis: str,
    before: Reader,
    after: Reader,
    series: str,
    null: Callable[[HeadlineRow], NullShare | None],
    reading: str,
) -> Figure | None:
    data: Data = []
    for row in rows:
        for label, share in ((UNTOUCHED, before(row)), (series, after(row))):
            if share is not None and share.rate is not None:
                data.append(_point(row, label, share.rate, share))
        random = null(row)
        data += [_point(row, RANDOM, rate, None) for rate in (random.rates if random else ())]
    if not data:
        return None
    present = [label for label in (UNTOUCHED, series, RANDOM) if any(item["series"] == label for item in data)]
    table = Table(
        caption=title,
        columns=[Column("language"), *(Column(label, numeric=True) for label in (UNTOUCHED, series, RANDOM))],
        rows=[
            [TableCell(row.name), share_cell(before(row), ""), share_cell(after(row), ""), null_cell(null(row))]
            for row in rows
        ],
    )
    spec = _spec(data, [row.name for row in rows], present, axis)
    return Figure(name, title, spec, alt=_alt(rows, title, before, after, series), reading=reading, table=table)


def _point(row: HeadlineRow, label: str, rate: float, share: Share | None) -> Point:
    counted = (
        "" if share is None else f"{share.k} of {share.n}" + (f", {share.unscored} unscored" if share.unscored else "")
    )
    return {
        "language": row.name,
        "series": label,
        "rate": round(rate, 4),
        "low": None if share is None or share.low is None else round(share.low, 4),
        "high": None if share is None or share.high is None else round(share.high, 4),
        "counted": counted,
    }


def _spec(data: Data, names: list[str], present: list[str], axis: str) -> Spec:
    y = alt.Y(
        "language", type="nominal", sort=names, scale=alt.Scale(domain=names), title=None, axis=alt.Axis(grid=False)
    )
    offset = alt.YOffset("series", type="nominal", sort=present, scale=alt.Scale(domain=present, paddingInner=0.3))
    colour = alt.Color(
        "series",
        type="nominal",
        scale=alt.Scale(domain=present, range=[COLOURS[label] for label in present]),
        legend=alt.Legend(orient="top", title=None, offset=8),
    )
    x = alt.X(
        "rate",
        type="quantitative",
        title=axis,
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", tickCount=5),
    )
    shape = alt.Shape(
        "series",
        type="nominal",
        scale=alt.Scale(domain=present, range=[SHAPES[label] for label in present]),
        legend=alt.Legend(orient="top", title=None, offset=8),
    )
    base = alt.Chart(named()).encode(y=y, yOffset=offset)
    bands = alt.Chart(named("bands")).mark_bar(opacity=0.06, color="#808080").encode(y=y)
    bars = base.mark_rule(strokeWidth=3, opacity=0.5, strokeCap="round").encode(
        x=alt.X("low", type="quantitative"), x2="high", color=colour
    )
    dots = base.mark_point(size=75, filled=True, opacity=1).encode(
        x=x,
        color=colour,
        shape=shape,
        tooltip=[
            tip("language", "language"),
            tip("series", "condition"),
            tip("rate", "share", ".1%"),
            tip("low", "from", ".1%"),
            tip("high", "to", ".1%"),
            tip("counted", "answers"),
        ],
    )
    return to_spec(
        layered(bands, bars, dots),
        {"rows": data, "bands": [{"language": name} for name in names[::2]]},
        height=max(90, ROW * len(names)),
    )


def _alt(rows: Sequence[HeadlineRow], title: str, before: Reader, after: Reader, series: str) -> str:
    parts: list[str] = []
    for row in rows:
        first, second = before(row), after(row)
        parts.append(
            f"{row.name} {percent(first.rate if first else None)} to {percent(second.rate if second else None)}"
        )
    return f"{title}, {UNTOUCHED} to {series}: {'; '.join(parts)}."
