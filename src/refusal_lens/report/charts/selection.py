"""The selection sweep: every candidate by position and layer, what each would do when ablated, and why most were dropped."""

from __future__ import annotations

import altair as alt

from refusal_lens.report.charts.theme import Data, Point, Spec, layered, named, tip, to_spec
from refusal_lens.report.facts import Facts, source_name
from refusal_lens.report.inputs import Row, count_of, real_of, text_of
from refusal_lens.report.shares import number
from refusal_lens.report.text import listing
from refusal_lens.report.views import Cell, Column, Figure, Table

KEPT, DROPPED, CHOSEN = "survived the filters", "dropped", "selected"


def selection_figure(facts: Facts) -> Figure | None:
    """Heat map of the candidates' scores, with a choice of source."""
    found = [row for row in facts.inputs.rows("candidates") if text_of(row, "source")]
    if not found:
        return None
    sources = list(dict.fromkeys(text_of(row, "source") for row in found))
    ordered = [source for source in facts.sources if source in sources] or sources
    data: Data = [_point(row) for row in found]
    layers = {count_of(row, "layer") for row in found}
    positions = {count_of(row, "position") for row in found}
    reading = (
        "Each cell is a candidate direction: the layer it was read at (across) and the token position, counted from"
        " the end of the prompt (down). Colour: the refusal score of harmful prompts once that candidate is ablated;"
        " the bluer, the more refusal it removes, orange means that the model still refuses. Crosses were dropped by"
        " a filter; point at a cell for the reason. The ring marks the selected candidate."
    )
    return Figure(
        "selection",
        "Where the direction was found",
        _spec(data, ordered, positions),
        alt=_alt(found, ordered),
        reading=reading,
        table=_reasons(found, ordered),
        scroll=min(1000, 130 + 22 * len(layers)),
    )


def _point(row: Row) -> Point:
    reason = text_of(row, "discarded")
    selected = row.get("selected") is True
    return {
        "source": source_name(text_of(row, "source")),
        "position": count_of(row, "position"),
        "layer": count_of(row, "layer"),
        "score": _rounded(row, "refusal_score"),
        "added": _rounded(row, "steering_score"),
        "kl": _rounded(row, "kl_div_score"),
        "fate": CHOSEN if selected else f"dropped: {reason}" if reason else KEPT,
        "state": CHOSEN if selected else DROPPED if reason else KEPT,
    }


def _spec(data: Data, sources: list[str], positions: set[int]) -> Spec:
    names = [source_name(source) for source in sources]
    scores = [abs(value) for item in data if isinstance(value := item["score"], float)]
    reach = max(scores, default=1.0) or 1.0
    x = alt.X("layer", type="ordinal", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap=True))
    y = alt.Y("position", type="ordinal", sort="descending", title="position from the end")
    base = alt.Chart(named()).encode(x=x, y=y)
    if len(names) > 1:
        chosen = alt.param(
            name="source", value=names[0], bind=alt.binding_select(options=names, name="Direction from ")
        )
        base = base.add_params(chosen).transform_filter("datum.source == source")
    tooltip = [
        tip("layer", "layer"),
        tip("position", "position"),
        tip("score", "refusal score when ablated", ".2f"),
        tip("added", "refusal score when added", ".2f"),
        tip("kl", "KL on harmless", ".4f"),
        tip("fate", "fate"),
    ]
    ground = base.mark_rect(cornerRadius=2, opacity=0.08, color="#808080").encode(tooltip=tooltip)
    cells = (
        base.transform_filter("datum.score !== null")
        .mark_rect(cornerRadius=2)
        .encode(
            color=alt.Color(
                "score",
                type="quantitative",
                title="refusal score when ablated",
                scale=alt.Scale(domain=[-reach, 0, reach], range="diverging", interpolate="rgb"),
                legend=alt.Legend(orient="top", gradientLength=220),
            ),
            tooltip=tooltip,
        )
    )
    crosses = (
        base.transform_filter(f"datum.state == '{DROPPED}'")
        .mark_text(text="×", fontSize=12, opacity=0.6)
        .encode(tooltip=tooltip)
    )
    ring = (
        base.transform_filter(f"datum.state == '{CHOSEN}'")
        .mark_point(shape="circle", size=260, filled=False, strokeWidth=2.5, color="#1e2126", opacity=1)
        .encode(tooltip=tooltip)
    )
    ring_light = (
        base.transform_filter(f"datum.state == '{CHOSEN}'")
        .mark_point(shape="circle", size=150, filled=False, strokeWidth=2, color="#ffffff", opacity=0.9)
        .encode(tooltip=tooltip)
    )
    return to_spec(
        layered(ground, cells, crosses, ring, ring_light), {"rows": data}, height=max(70, 34 * len(positions))
    )


def _reasons(found: list[Row], sources: list[str]) -> Table:
    counted: dict[tuple[str, str], int] = {}
    for row in found:
        fate = CHOSEN if row.get("selected") is True else _group(text_of(row, "discarded")) or KEPT
        counted[text_of(row, "source"), fate] = counted.get((text_of(row, "source"), fate), 0) + 1
    fates = sorted({fate for _, fate in counted}, key=lambda fate: (fate != CHOSEN, fate != KEPT, fate))
    return Table(
        caption="Candidates by fate",
        columns=[Column("direction from"), *(Column(fate, numeric=True) for fate in fates)],
        rows=[
            [Cell(source_name(source)), *(Cell(str(counted.get((source, fate), 0))) for fate in fates)]
            for source in sources
        ],
    )


def _group(reason: str) -> str:
    """A reason without its own numbers, so that equal reasons count together."""
    return " ".join("…" if any(letter.isdigit() for letter in word) else word for word in reason.split())


def _alt(found: list[Row], sources: list[str]) -> str:
    said: list[str] = []
    for source in sources:
        own = [row for row in found if text_of(row, "source") == source]
        dropped = sum(bool(text_of(row, "discarded")) for row in own)
        picked = next((row for row in own if row.get("selected") is True), None)
        end = (
            f"selected position {count_of(picked, 'position')}, layer {count_of(picked, 'layer')}, score"
            f" {number(real_of(picked, 'refusal_score'))}"
            if picked
            else "none selected"
        )
        said.append(f"{source_name(source)}: {len(own)} candidates, {dropped} dropped, {end}")
    return f"Scores of candidate directions by position and layer. {listing(said)}."


def _rounded(row: Row, column: str) -> float | None:
    value = real_of(row, column)
    return None if value is None else round(value, 4)
