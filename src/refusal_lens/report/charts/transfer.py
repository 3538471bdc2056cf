"""The transfer matrix: what the direction of one language does in every other, random and shuffled directions beside it."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt

from refusal_lens.core.interventions import declared
from refusal_lens.core.names import is_null
from refusal_lens.core.tables import TransferRow
from refusal_lens.report.charts.theme import Data, Point, Spec, heat, layered, named, tips, to_spec
from refusal_lens.report.facts import Facts, language_name, source_name
from refusal_lens.report.shares import p_text, points
from refusal_lens.report.views import Figure, TableOf, points_cell


@dataclass(frozen=True)
class _Effect:
    """A row of the table, turned so that a positive difference means that the direction acts as refusal."""

    row: TransferRow
    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None

    @property
    def label(self) -> str:
        return points(self.difference)


def transfer_figure(facts: Facts, intervention: str) -> Figure | None:
    """Source by target matrix of one intervention.

    Args:
        facts: The run's numbers.
        intervention: Its name.

    Returns:
        The figure; None without such rows.
    """
    turned = declared(intervention).reads_on == "harmless"
    what = "harmless prompts refused" if turned else "harmful prompts answered"
    title = f"{intervention.capitalize()}: change in {what}"
    sources = facts.ordered(row["source"] for row in facts.transfer(intervention))
    targets = facts.ordered(row["target"] for row in facts.transfer(intervention))
    rows = sorted(
        facts.transfer(intervention), key=lambda row: (sources.index(row["source"]), targets.index(row["target"]))
    )
    if not rows:
        return None
    effects = [_effect(row, turned=turned) for row in rows]
    table = (
        TableOf(effects)
        .words("direction from", lambda effect: source_name(effect.row["source"]))
        .words("applied in", lambda effect: language_name(effect.row["target"]))
        .shares("untouched", lambda effect: effect.before)
        .shares("with direction", lambda effect: effect.after)
        .cells("points", lambda effect: points_cell(effect.difference, effect.low, effect.high))
        .numbers("p (McNemar)", lambda effect: effect.row["p_value"], digits=4)
        .numbers("p (Holm)", lambda effect: effect.row["p_holm"], digits=4)
        .counts("pairs", lambda effect: effect.row["n"])
        .words("judges", lambda effect: effect.row["judges"] or "")
        .cells("smallest detectable", lambda effect: points_cell(effect.row["mde"]))
    )
    return Figure(
        f"transfer-{intervention}",
        title,
        _spec(
            [_point(facts, effect, turned=turned) for effect in effects],
            list(map(source_name, sources)),
            list(map(language_name, targets)),
        ),
        alt=f"{title}, by source of the direction. {'; '.join(_told(effects, source) for source in sources)}.",
        reading=(
            "Each cell is the change, in percentage points, against the target's own untouched answers to the same"
            f" prompts (rows: whose direction; columns: where it is applied). Orange: more {what}. A dot marks changes"
            " larger than chance: the paired test rejects (p < 0.05) and the interval lies beyond zero and beyond every"
            " null's change in the same language. Random and shuffled rows are nulls: what they show is noise."
        ).replace("Orange: more harmless prompts refused", "Blue: more harmless prompts refused"),
        table=table.made(title),
        scroll=150 + 46 * len(targets),
    )


def _effect(row: TransferRow, *, turned: bool) -> _Effect:
    if not turned:
        return _Effect(row, row["baseline_rate"], row["rate"], row["difference"], row["low"], row["high"])
    before, after = (None if value is None else 1 - value for value in (row["baseline_rate"], row["rate"]))
    difference, low, high = (
        None if value is None else -value for value in (row["difference"], row["high"], row["low"])
    )
    return _Effect(row, before, after, difference, low, high)


def _point(facts: Facts, effect: _Effect, *, turned: bool) -> Point:
    row = effect.row
    source, target, intervention = row["source"], row["target"], row["intervention"]
    known = effect.low is not None and effect.high is not None
    shade = effect.difference
    if shade is not None and turned:
        shade = -shade
    return {
        "source": source_name(source),
        "target": language_name(target),
        "shade": None if shade is None else round(shade, 4),
        "label": effect.label,
        "range": f"{points(effect.low)} to {points(effect.high)} points" if known else "no interval",
        "p": p_text(row["p_value"]),
        "p_holm": p_text(row["p_holm"]),
        "sure": not is_null(source) and facts.raised(target, intervention=intervention, source=source) is True,
        "n": row["n"],
    }


def _told(effects: list[_Effect], source: str) -> str:
    values = [
        effect.difference for effect in effects if effect.row["source"] == source and effect.difference is not None
    ]
    if not values:
        return f"{source_name(source)}: not measured"
    return f"{source_name(source)}: {points(min(values))} to {points(max(values))} points"


def _spec(data: Data, sources: list[str], targets: list[str]) -> Spec:
    axis = alt.Axis(orient="top", labelAngle=-38)
    base = alt.Chart(named()).encode(
        x=alt.X("target", type="nominal", sort=targets, title="applied in", axis=axis),
        y=alt.Y("source", type="nominal", sort=sources, title="direction from"),
        tooltip=tips(
            ("source", "direction from"),
            ("target", "applied in"),
            ("label", "change, points"),
            ("range", "95 % interval"),
            ("p", "paired test"),
            ("p_holm", "after Holm"),
            ("n", "paired prompts"),
        ),
    )
    colour = heat("shade", "change in compliance", [-1.0, 0.0, 1.0], ramp="diverging")
    cells = base.mark_rect(cornerRadius=2).encode(color=colour.legend(orient="bottom", gradientLength=220, format="+%"))
    labels = base.mark_text(dy=-1).encode(text=alt.Text("label", type="nominal"))
    dots = base.transform_filter("datum.sure").mark_point(filled=True, size=9, yOffset=10, opacity=0.9, color="#555b66")
    return to_spec(layered(cells, labels, dots), {"rows": data}, height=max(70, 34 * len(sources)))
