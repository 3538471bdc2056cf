"""Why languages leak, in words that follow the chart: two findings about separation, then the relation over languages.

A language can be *separable by itself* (harmful and harmless prompts apart along the shared direction, wherever they lie)
and still lie *below the threshold that the other languages share* (its margin is negative): the line that serves the others
misses it. The chart shows the margin, so the paragraph says which of the two it is. A rank correlation is stated from
six languages on, and only where neither side is mostly ties. The rules and thresholds are those of `measure`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from refusal_lens.core.geometry_tables import SeparationRow
from refusal_lens.core.ranks import why_no_ranks
from refusal_lens.measure.explain import APART, LEAKING
from refusal_lens.report.charts.leak import separation_rows
from refusal_lens.report.facts import Facts, as_map, language_name
from refusal_lens.report.shares import number, percent


def leak_words(facts: Facts) -> str:
    """The paragraph; empty without separation and without a correlation."""
    rows = separation_rows(facts)
    leaking = [row for row in rows if (row["baseline_compliance"] or 0.0) >= LEAKING]
    said = [_where(row) for row in leaking]
    return " ".join(text for text in (*said, _correlation(facts, rows)) if text)


def _where(row: SeparationRow) -> str:
    """Of a language that answers most harmful prompts untouched: separable by itself, and where its prompts lie."""
    auc, margin = row["auc"], row["margin"]
    if auc is None:
        return ""
    name, rate = language_name(row["language"]), percent(row["baseline_compliance"])
    start = f"{name}, where {rate} of harmful prompts are answered untouched:"
    apart = auc >= APART
    told = "told apart from harmless ones by themselves" if apart else "hardly told apart from harmless ones"
    start = f"{start} harmful prompts are {told} (AUC {number(auc)})"
    if margin is None:
        return f"{start}."
    shown = f"the threshold that the other languages share (margin {number(margin)}, which the chart shows)"
    if margin < 0:
        return f"{start}, {'but' if apart else 'and'} lie below {shown}: the line that serves the others misses them."
    if apart:
        return f"{start}, and lie above {shown}: the model sees them and answers; the action fails, not the representation."
    return f"{start}, though they lie above {shown}."


def _correlation(facts: Facts, rows: list[SeparationRow]) -> str:
    leak = as_map(as_map(facts.inputs.summaries.get("geometry")).get("leak"))
    rho, low, high, n = (
        float(value) if isinstance(value := leak.get(name), (int, float)) else None
        for name in ("rho", "low", "high", "n")
    )
    count = len(rows) if n is None else int(n)
    why = why_no_ranks(_measured(row["margin"] for row in rows), _measured(row["baseline_compliance"] for row in rows))
    if why is not None and rows:
        return f"No rank correlation over languages is stated: {why}."
    if rho is None or low is None or high is None:
        return ""
    measured = f"(Spearman ρ = {number(rho)}, 95 % interval {number(low)} to {number(high)}, {count} languages)"
    if high < 0:
        return (
            f"Languages whose harmful prompts lie lower along the shared direction answer more of them {measured}. A"
            " relation over few languages; not proof of cause."
        )
    if low > 0:
        return (
            "Against the paper's explanation, languages whose harmful prompts stand out more answer more of them here"
            f" {measured}."
        )
    return f"No clear relation between separation and leaking over languages {measured}: the interval includes zero."


def _measured(values: Iterable[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
