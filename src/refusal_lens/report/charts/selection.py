"""The selection sweep: every candidate by position and layer, what each would do when ablated, and why most were dropped."""

from __future__ import annotations

from collections import Counter

import altair as alt

from refusal_lens.core.tables import CANDIDATES, CandidateRow
from refusal_lens.report.charts.theme import Data, Point, Spec, heat, layered, named, tips, to_spec
from refusal_lens.report.facts import Facts, source_name
from refusal_lens.report.shares import number
from refusal_lens.report.text import listing
from refusal_lens.report.views import Figure, TableOf

KEPT, DROPPED, CHOSEN = "survived the filters", "dropped", "selected"


def selection_figure(facts: Facts) -> Figure | None:
    """Heat map of the candidates' scores, with a choice of source."""
    found = [row for row in facts.inputs.rows(CANDIDATES) if row["source"]]
    if not found:
        return None
    by_source = {row["source"]: [other for other in found if other["source"] == row["source"]] for row in found}
    sources = [source for source in facts.sources if source in by_source] or list(by_source)
    fates = {source: Counter(map(_fate, by_source[source])) for source in sources}
    columns = {fate for counted in fates.values() for fate in counted}
    table = TableOf(sources).words("direction from", source_name)
    for fate in sorted(columns, key=lambda fate: (fate != CHOSEN, fate != KEPT, fate)):
        table.counts(fate, lambda source, fate=fate: fates[source][fate])
    return Figure(
        "selection",
        "Where the direction was found",
        _spec([_point(row) for row in found], [source_name(source) for source in sources], found),
        alt=(
            "Scores of candidate directions by position and layer."
            f" {listing([_told(source, by_source[source]) for source in sources])}."
        ),
        reading=(
            "Each cell is a candidate direction: the layer it was read at (across) and the token position, counted from"
            " the end of the prompt (down). Colour: the refusal score of harmful prompts once that candidate is"
            " ablated; orange, and the more so, means that the model no longer refuses, blue that it still does."
            " Crosses were dropped by a filter; point at a cell for the reason. The ring marks the selected candidate."
        ),
        table=table.made("Candidates by fate"),
        scroll=min(1000, 130 + 22 * len({row["layer"] for row in found})),
    )


def _fate(row: CandidateRow) -> str:
    """Selected, kept, or the reason without its own numbers, so that equal reasons count together."""
    if row["selected"]:
        return CHOSEN
    reason = " ".join(
        "…" if any(letter.isdigit() for letter in word) else word for word in (row["discarded"] or "").split()
    )
    return reason or KEPT


def _told(source: str, rows: list[CandidateRow]) -> str:
    picked = next((row for row in rows if row["selected"]), None)
    end = "none selected"
    if picked is not None:
        score = number(picked["refusal_score"])
        end = f"selected position {picked['position']}, layer {picked['layer']}, score {score}"
    dropped = sum(bool(row["discarded"]) for row in rows)
    return f"{source_name(source)}: {len(rows)} candidates, {dropped} dropped, {end}"


def _point(row: CandidateRow) -> Point:
    score, added, kl = (
        None if value is None else round(value, 4)
        for value in (row["refusal_score"], row["steering_score"], row["kl_div_score"])
    )
    return {
        "source": source_name(row["source"]),
        "position": row["position"],
        "layer": row["layer"],
        "score": score,
        "added": added,
        "kl": kl,
        "fate": CHOSEN if row["selected"] else f"dropped: {row['discarded']}" if row["discarded"] else KEPT,
        "state": CHOSEN if row["selected"] else DROPPED if row["discarded"] else KEPT,
    }


def _spec(data: Data, names: list[str], found: list[CandidateRow]) -> Spec:
    reach = max((abs(row["refusal_score"]) for row in found if row["refusal_score"] is not None), default=1.0) or 1.0
    tooltip = tips(
        ("layer", "layer"),
        ("position", "position"),
        ("score", "refusal score when ablated", ".2f"),
        ("added", "refusal score when added", ".2f"),
        ("kl", "KL on harmless", ".4f"),
        ("fate", "fate"),
    )
    base = alt.Chart(named()).encode(
        x=alt.X("layer", type="ordinal", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("position", type="ordinal", sort="descending", title="position from the end"),
        tooltip=tooltip,
    )
    if len(names) > 1:
        choice = alt.binding_select(options=names, name="Direction from ")
        base = base.add_params(alt.param(name="source", value=names[0], bind=choice))
        base = base.transform_filter("datum.source == source")
    colour = heat("score", "refusal score when ablated", [reach, 0.0, -reach], ramp="diverging")
    chosen = base.transform_filter(f"datum.state == '{CHOSEN}'")
    layers = (
        base.mark_rect(cornerRadius=2, opacity=0.08, color="#808080"),
        base.transform_filter("datum.score !== null").mark_rect(cornerRadius=2).encode(color=colour),
        base.transform_filter(f"datum.state == '{DROPPED}'").mark_text(text="×", fontSize=12, opacity=0.6),
        chosen.mark_point(shape="circle", size=260, filled=False, strokeWidth=2.5, color="#1e2126", opacity=1),
        chosen.mark_point(shape="circle", size=150, filled=False, strokeWidth=2, color="#ffffff", opacity=0.9),
    )
    return to_spec(layered(*layers), {"rows": data}, height=max(70, 34 * len({row["position"] for row in found})))
