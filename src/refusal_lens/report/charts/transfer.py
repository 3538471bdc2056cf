"""The transfer matrix: what the direction of one language does in every other, random and shuffled directions beside it."""

from __future__ import annotations

import altair as alt

from refusal_lens.core.names import is_null
from refusal_lens.report.charts.theme import Data, Point, Spec, layered, named, tip, to_spec
from refusal_lens.report.facts import Facts, language_name, source_name
from refusal_lens.report.inputs import Row, Rows, count_of, real_of, text_of
from refusal_lens.report.shares import number, p_text, percent, points
from refusal_lens.report.views import Cell, Column, Figure, Table

WORDS = {
    "ablation": (
        "transfer-ablation",
        "Ablation: change in harmful prompts answered",
        "more harmful prompts answered",
        1,
    ),
    "addition": (
        "transfer-addition",
        "Addition: change in harmless prompts refused",
        "more harmless prompts refused",
        -1,
    ),
}


def transfer_figure(facts: Facts, intervention: str) -> Figure | None:
    """Source by target matrix of one intervention.

    Args:
        facts: The run's numbers.
        intervention: `ablation` or `addition`.

    Returns:
        The figure; None without such rows.
    """
    name, title, more, sign = WORDS[intervention]
    rows = facts.transfer(intervention)
    if not rows:
        return None
    sources = _ordered_sources(facts, rows)
    targets = [code for code in facts.languages if any(text_of(row, "target") == code for row in rows)]
    targets += sorted({text_of(row, "target") for row in rows} - set(targets))
    data: Data = [_point(facts, row, sign) for row in rows]
    reading = (
        "Each cell is the change, in percentage points, against the target's own untouched answers to the same"
        f" prompts (rows: whose direction; columns: where it is applied). Orange: {more}. A dot marks changes"
        " larger than chance: the paired test rejects (p < 0.05) and the interval lies beyond zero and beyond every"
        " null's change in the same language. Random and shuffled rows are nulls: what they show is"
        " noise."
    )
    return Figure(
        name,
        title,
        _spec(data, [source_name(source) for source in sources], [language_name(code) for code in targets]),
        alt=_alt(title, rows, sources, sign),
        reading=reading,
        table=_table(title, rows, sources, targets, sign),
        scroll=150 + 46 * len(targets),
    )


def signed_difference(row: Row, sign: int) -> float | None:
    """The row's difference, turned so that a positive one means that the direction acts as refusal."""
    value = real_of(row, "difference")
    return None if value is None else sign * value


def _point(facts: Facts, row: Row, sign: int) -> Point:
    difference = signed_difference(row, sign)
    ends = [sign * value for value in (real_of(row, "low"), real_of(row, "high")) if value is not None]
    intervention, source, target = (text_of(row, name) for name in ("intervention", "source", "target"))
    return {
        "source": source_name(text_of(row, "source")),
        "target": language_name(text_of(row, "target")),
        "difference": None if difference is None else round(difference, 4),
        "label": points(difference),
        "range": f"{points(min(ends))} to {points(max(ends))} points" if len(ends) == 2 else "no interval",
        "p": p_text(real_of(row, "p_value")),
        "p_holm": p_text(real_of(row, "p_holm")),
        "sure": not is_null(source) and facts.raised(target, intervention=intervention, source=source) is True,
        "n": count_of(row, "n"),
    }


def _spec(data: Data, sources: list[str], targets: list[str]) -> Spec:
    base = alt.Chart(named()).encode(
        x=alt.X(
            "target", type="nominal", sort=targets, title="applied in", axis=alt.Axis(orient="top", labelAngle=-38)
        ),
        y=alt.Y("source", type="nominal", sort=sources, title="direction from"),
        tooltip=[
            tip("source", "direction from"),
            tip("target", "applied in"),
            tip("label", "change, points"),
            tip("range", "95 % interval"),
            tip("p", "paired test"),
            tip("p_holm", "after Holm"),
            tip("n", "paired prompts"),
        ],
    )
    colour = alt.Color(
        "difference",
        type="quantitative",
        scale=alt.Scale(domain=[-1, 0, 1], range="diverging", interpolate="rgb"),
        title="change",
        legend=alt.Legend(orient="bottom", format="+%", gradientLength=220),
    )
    cells = base.mark_rect(cornerRadius=2).encode(color=colour)
    labels = base.mark_text(dy=-1).encode(text=alt.Text("label", type="nominal"))
    dots = base.transform_filter("datum.sure").mark_point(filled=True, size=9, yOffset=10, opacity=0.9, color="#555b66")
    return to_spec(layered(cells, labels, dots), {"rows": data}, height=max(70, 34 * len(sources)))


def _ordered_sources(facts: Facts, rows: Rows) -> list[str]:
    present = list(dict.fromkeys(text_of(row, "source") for row in rows))
    order = {code: index for index, code in enumerate(facts.languages)}
    return sorted(present, key=lambda source: (is_null(source), source not in order, order.get(source, 0), source))


def _table(title: str, rows: Rows, sources: list[str], targets: list[str], sign: int) -> Table:
    by_cell = {(text_of(row, "source"), text_of(row, "target")): row for row in rows}
    lines: list[list[Cell]] = []
    for source in sources:
        for target in targets:
            row = by_cell.get((source, target))
            if row is None:
                continue
            ends = [sign * value for value in (real_of(row, "low"), real_of(row, "high")) if value is not None]
            before, after = real_of(row, "baseline_rate"), real_of(row, "rate")
            if sign < 0:
                before, after = (None if value is None else 1 - value for value in (before, after))
            lines.append(
                [
                    Cell(source_name(source)),
                    Cell(language_name(target)),
                    Cell(percent(before)),
                    Cell(percent(after)),
                    Cell(
                        points(signed_difference(row, sign)),
                        note=f"[{points(min(ends))}, {points(max(ends))}]" if len(ends) == 2 else "",
                    ),
                    Cell(number(real_of(row, "p_value"), digits=4)),
                    Cell(number(real_of(row, "p_holm"), digits=4)),
                    Cell(str(count_of(row, "n"))),
                    Cell(points(real_of(row, "mde")).removeprefix("+")),
                ]
            )
    head = ("untouched", "with direction", "points", "p (McNemar)", "p (Holm)", "pairs", "smallest detectable")
    return Table(
        title,
        [Column("direction from"), Column("applied in"), *(Column(label, numeric=True) for label in head)],
        lines,
    )


def _alt(title: str, rows: Rows, sources: list[str], sign: int) -> str:
    said: list[str] = []
    for source in sources:
        found = [
            value
            for row in rows
            if text_of(row, "source") == source and (value := signed_difference(row, sign)) is not None
        ]
        if found:
            said.append(f"{source_name(source)}: {points(min(found))} to {points(max(found))} points")
    return f"{title}, by source of the direction. {'; '.join(said)}."
