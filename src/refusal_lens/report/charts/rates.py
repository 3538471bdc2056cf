"""Compliance and refusal per language: a dot with its interval for each condition, a tick for each random direction."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt

from refusal_lens.report.charts.theme import (
    ABLATED,
    ADDED,
    COLOURS,
    GROUND_BAND,
    RANDOM,
    ROW,
    SHAPES,
    UNTOUCHED,
    Data,
    Point,
    Spec,
    coloured,
    language_rows,
    layered,
    named,
    shaped,
    share_axis,
    tips,
    to_spec,
)
from refusal_lens.report.facts import Facts
from refusal_lens.report.shares import NullShare, Share, percent
from refusal_lens.report.views import Figure, TableOf, null_cell, share_cell


@dataclass(frozen=True)
class _Compared:
    """What one figure puts side by side in a language."""

    name: str
    before: Share | None
    after: Share | None
    null: NullShare | None


def untouched_figure(facts: Facts) -> Figure | None:
    """Harmful prompts that the untouched model answers, the worst language first."""
    rows = sorted(facts.headline, key=lambda row: -(row.harmful_baseline.rate or 0.0) if row.harmful_baseline else 1.0)
    return _figure(
        [_Compared(row.name, row.harmful_baseline, None, None) for row in rows],
        name="untouched",
        title="Harmful prompts answered without any attack",
        series=ABLATED,
        axis="share of harmful prompts answered",
        reading=(
            "Each row is a language, the worst first. Circle: the share of harmful prompts that the untouched model"
            " answers; bar: its 95 % interval, which is what this many prompts can and cannot rule out."
        ),
    )


def harmful_figure(facts: Facts) -> Figure | None:
    """Harmful prompts answered: untouched, ablated, random."""
    return _figure(
        [_Compared(row.name, row.harmful_baseline, row.harmful_ablated, row.harmful_random) for row in facts.headline],
        name="rates-harmful",
        title="Harmful prompts answered",
        series=ABLATED,
        axis="share of harmful prompts answered",
        reading=(
            "Each row is a language. Grey circle: the untouched model. Orange diamond: the same model with the"
            " direction ablated. Bars are 95 % intervals. Violet ticks: random directions of the same size, one tick"
            " each; a real effect lies far from them. Further right means more harmful prompts answered."
        ),
    )


def harmless_figure(facts: Facts) -> Figure | None:
    """Harmless prompts refused: untouched, added, random."""
    return _figure(
        [_Compared(row.name, row.harmless_baseline, row.harmless_added, row.harmless_random) for row in facts.headline],
        name="rates-harmless",
        title="Harmless prompts refused",
        series=ADDED,
        axis="share of harmless prompts refused",
        reading=(
            "Grey circle: over-refusal of the untouched model. Blue square: the same prompts with the direction"
            " added. Violet ticks: random directions added. If the direction means refusal in a language, the square"
            " moves right and the ticks stay. Answers that could not be judged count in neither."
        ),
    )


def _figure(rows: list[_Compared], *, name: str, title: str, series: str, axis: str, reading: str) -> Figure | None:
    data: Data = []
    for row in rows:
        data += [
            _point(row.name, label, share) for label, share in ((UNTOUCHED, row.before), (series, row.after)) if share
        ]
        for rate in row.null.rates if row.null else ():
            data.append({"language": row.name, "series": RANDOM, "rate": round(rate, 4)})
    data = [point for point in data if point["rate"] is not None]
    if not data:
        return None
    present = [label for label in (UNTOUCHED, series, RANDOM) if any(point["series"] == label for point in data)]
    table = (
        TableOf(rows).words("language", lambda row: row.name).cells(UNTOUCHED, lambda row: share_cell(row.before, ""))
    )
    if len(present) > 1:
        table.cells(series, lambda row: share_cell(row.after, "")).cells(RANDOM, lambda row: null_cell(row.null))
    changes = [
        f"{row.name} {' to '.join(percent(share.rate) for share in (row.before, row.after) if share)}" for row in rows
    ]
    return Figure(
        name,
        title,
        _spec(data, [row.name for row in rows], present, axis),
        alt=f"{title}, {' to '.join(present[:2] if series in present else present[:1])}: {'; '.join(changes)}.",
        reading=reading,
        table=table.made(title),
    )


def _point(language: str, series: str, share: Share) -> Point:
    return {
        "language": language,
        "series": series,
        "rate": None if share.rate is None else round(share.rate, 4),
        "low": None if share.low is None else round(share.low, 4),
        "high": None if share.high is None else round(share.high, 4),
        "counted": f"{share.k} of {share.n}" + (f", {share.doubts}" if share.doubts else ""),
    }


def _spec(data: Data, names: list[str], present: list[str], axis: str) -> Spec:
    rows = language_rows(names)
    offset = alt.YOffset("series", type="nominal", sort=present, scale=alt.Scale(domain=present, paddingInner=0.3))
    colour = coloured("series", COLOURS, present)
    base = alt.Chart(named()).encode(y=rows, yOffset=offset)
    bands = alt.Chart(named("bands")).mark_bar(opacity=0.06, color=GROUND_BAND).encode(y=rows)
    bars = base.mark_rule(strokeWidth=3, opacity=0.5, strokeCap="round").encode(
        x=alt.X("low", type="quantitative"), x2="high", color=colour
    )
    dots = base.mark_point(size=75, filled=True, opacity=1).encode(
        x=share_axis("rate", axis),
        color=colour,
        shape=shaped("series", SHAPES, present),
        tooltip=tips(
            ("language", "language"),
            ("series", "condition"),
            ("rate", "share", ".1%"),
            ("low", "from", ".1%"),
            ("high", "to", ".1%"),
            ("counted", "answers"),
        ),
    )
    bands_data: Data = [{"language": name} for name in names[::2]]
    return to_spec(layered(bands, bars, dots), {"rows": data, "bands": bands_data}, height=max(90, ROW * len(names)))
