"""What ablation really did: of all harmful prompts, how many were answered on topic, hollowly, refused, not judged."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt

from refusal_lens.report.charts.theme import ROW, Data, Spec, coloured, language_rows, named, share_axis, tips, to_spec
from refusal_lens.report.facts import Facts
from refusal_lens.report.shares import percent
from refusal_lens.report.views import Cell, Figure, TableOf

ON_TOPIC, HOLLOW, UNCHECKED, REFUSED, UNSCORED = (
    "answered, on topic",
    "answered, hollow",
    "answered, topic not checkable",
    "refused",
    "not judged",
)
COLOURS = {ON_TOPIC: "#d9601a", HOLLOW: "#eab98f", UNCHECKED: "#d08b62", REFUSED: "#2b83c6", UNSCORED: "#b9bec6"}


@dataclass(frozen=True)
class _Answers:
    name: str
    parts: dict[str, int]
    untouched: float | None

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def content_figure(facts: Facts) -> Figure | None:
    """Stacked bars over languages for the main source's ablation on harmful prompts."""
    rows = [_answers(facts, code, name) for code, name in ((row.language, row.name) for row in facts.headline)]
    rows = [row for row in rows if row.total]
    if not rows:
        return None
    data: Data = [
        {"language": row.name, "part": part, "count": count, "share": round(count / row.total, 4), "order": index}
        for row in rows
        for index, (part, count) in enumerate(row.parts.items())
        if count
    ]
    table = TableOf(rows).words("language", lambda row: row.name)
    for part in COLOURS:
        table.cells(part, lambda row, part=part: _part_cell(row, part))
    table.shares("on topic of answered, untouched", lambda row: row.untouched)
    told = "; ".join(f"{row.name} {percent(row.parts[ON_TOPIC] / row.total)}" for row in rows)
    return Figure(
        "content",
        "What the model did after ablation",
        _spec(data, [row.name for row in rows]),
        alt=f"After ablation, share answered on topic: {told}.",
        reading=(
            "Each bar is all harmful test prompts of a language after ablation. Dark orange: answered and about what was"
            " asked. Light orange: not refused, but not an answer to the prompt either. Blue: still refused. Grey:"
            " could not be judged. Only the dark orange part may be called compliance in substance. The table beneath"
            " also holds the untouched model's share of answers on topic, where it answered."
        ),
        table=table.made("Answers to harmful prompts after ablation"),
    )


def _answers(facts: Facts, code: str, name: str) -> _Answers:
    share = facts.cells.get(facts.key("ablation", code, "harmful"))
    if share is None:
        return _Answers(name, {}, None)
    row, before = facts.topic(code, intervention="ablation"), facts.topic(code)
    on_topic, hollow = (row["on_topic"], row["hollow"]) if row else (0, 0)
    parts = {
        ON_TOPIC: on_topic,
        HOLLOW: hollow,
        UNCHECKED: max(0, share.k - on_topic - hollow),
        REFUSED: share.n - share.k,
        UNSCORED: share.unscored,
    }
    return _Answers(name, parts, before["share_on_topic"] if before else None)


def _part_cell(row: _Answers, part: str) -> Cell:
    return Cell(str(row.parts[part]), note=percent(row.parts[part] / row.total), value=float(row.parts[part]))


def _spec(data: Data, names: list[str]) -> Spec:
    present = [part for part in COLOURS if any(point["part"] == part for point in data)]
    bars = (
        alt.Chart(named())
        .mark_bar(cornerRadius=1.5, height={"band": 0.62})
        .encode(
            y=language_rows(names),
            x=share_axis("share", "share of harmful prompts").stack("zero"),
            color=coloured("part", COLOURS, present).legend(
                orient="top", symbolType="square", columns=3, labelLimit=240, title=None
            ),
            order=alt.Order("order", type="quantitative"),
            tooltip=tips(
                ("language", "language"),
                ("part", "what happened"),
                ("count", "prompts", "d"),
                ("share", "share", ".1%"),
            ),
        )
    )
    return to_spec(bars, {"rows": data}, height=max(80, (ROW - 6) * len(names)))
