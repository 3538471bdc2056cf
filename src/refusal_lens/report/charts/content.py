"""What ablation really did: of all harmful prompts, how many were answered on topic, hollowly, refused, not judged."""

from __future__ import annotations

import altair as alt

from refusal_lens.report.charts.theme import ROW, Data, Spec, named, tip, to_spec
from refusal_lens.report.facts import Facts
from refusal_lens.report.inputs import Row, count_of, text_of
from refusal_lens.report.shares import percent
from refusal_lens.report.views import Cell, Column, Figure, Table

ON_TOPIC, HOLLOW, UNCHECKED, REFUSED, UNSCORED = (
    "answered, on topic",
    "answered, hollow",
    "answered, topic not checkable",
    "refused",
    "not judged",
)
COLOURS = {ON_TOPIC: "#d9601a", HOLLOW: "#eab98f", UNCHECKED: "#d08b62", REFUSED: "#2b83c6", UNSCORED: "#9aa1ab"}


def content_figure(facts: Facts) -> Figure | None:
    """Stacked bars over languages for the main source's ablation on harmful prompts."""
    source = facts.main_source
    wanted = ("ablation", source, "harmful")
    own = {
        text_of(row, "language"): row
        for row in facts.main_rows("content")
        if (text_of(row, "intervention"), text_of(row, "source"), text_of(row, "prompts", "harmful")) == wanted
    }
    data: Data = []
    lines: list[list[Cell]] = []
    for row in facts.headline:
        parts = _parts(facts, row.language, own.get(row.language))
        total = sum(parts.values())
        if not total:
            continue
        for index, (part, count) in enumerate(parts.items()):
            data.append(
                {"language": row.name, "part": part, "count": count, "share": round(count / total, 4), "order": index}
            )
        lines.append([Cell(row.name), *(Cell(f"{count}", note=percent(count / total)) for count in parts.values())])
    if not data:
        return None
    names = [line[0].text for line in lines]
    present = [part for part in COLOURS if any(item["part"] == part and item["count"] for item in data)]
    table = Table(
        "Answers to harmful prompts after ablation",
        [Column("language"), *(Column(part, numeric=True) for part in COLOURS)],
        lines,
    )
    reading = (
        "Each bar is all harmful test prompts of a language after ablation. Dark orange: answered and about what was"
        " asked. Light orange: not refused, but not an answer to the prompt either. Blue: still refused. Grey: could"
        " not be judged. Only the dark orange part may be called compliance in substance."
    )
    alt_text = (
        "After ablation, share answered on topic: "
        + "; ".join(f"{line[0].text} {line[1].note}" for line in lines)
        + "."
    )
    return Figure(
        "content",
        "What the model did after ablation",
        _spec(data, names, present),
        alt=alt_text,
        reading=reading,
        table=table,
    )


def _parts(facts: Facts, language: str, row: Row | None) -> dict[str, int]:
    share = facts.share("ablation", language, "harmful")
    if share is None:
        return {}
    on_topic, hollow = (count_of(row, "on_topic"), count_of(row, "hollow")) if row is not None else (0, 0)
    unchecked = max(0, share.k - on_topic - hollow)
    return {
        ON_TOPIC: on_topic,
        HOLLOW: hollow,
        UNCHECKED: unchecked,
        REFUSED: share.n - share.k,
        UNSCORED: share.unscored,
    }


def _spec(data: Data, names: list[str], present: list[str]) -> Spec:
    shown: Data = [item for item in data if item["count"]]
    bars = (
        alt.Chart(named())
        .mark_bar(cornerRadius=1.5, height={"band": 0.62})
        .encode(
            y=alt.Y("language", type="nominal", sort=names, title=None, axis=alt.Axis(grid=False)),
            x=alt.X(
                "share",
                type="quantitative",
                stack="zero",
                title="share of harmful prompts",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%", tickCount=5),
            ),
            color=alt.Color(
                "part",
                type="nominal",
                scale=alt.Scale(domain=present, range=[COLOURS[part] for part in present]),
                legend=alt.Legend(orient="top", title=None, symbolType="square", columns=3, labelLimit=240),
            ),
            order=alt.Order("order", type="quantitative"),
            tooltip=[
                tip("language", "language"),
                tip("part", "what happened"),
                tip("count", "prompts", "d"),
                tip("share", "share", ".1%"),
            ],
        )
    )
    return to_spec(bars, {"rows": shown}, height=max(80, (ROW - 6) * len(names)))
