"""Why languages leak, in words that follow the chart: two findings about separation, then the relation over languages.

A language can be *separable by itself* (harmful and harmless prompts apart along the shared direction, wherever they lie)
and still lie *below the threshold that the other languages share* (their margin is negative): the model's own line misses
it. The chart shows the margin, so the paragraph says which of the two it is. A rank correlation is stated from `LEAST`
languages on, and only where neither side is mostly ties.
"""

from __future__ import annotations

from collections import Counter

from refusal_lens.report.charts.leak import separation_rows
from refusal_lens.report.facts import Facts, as_map, language_name
from refusal_lens.report.inputs import Row, real_of, text_of
from refusal_lens.report.shares import number, percent

LEAST = 6
APART = 0.9
LEAKING = 0.5


def leak_words(facts: Facts) -> str:
    """The paragraph; empty without separation and without a correlation."""
    rows = separation_rows(facts)
    leaking = [row for row in rows if (real_of(row, "baseline_compliance") or 0.0) >= LEAKING]
    said = [_where(row) for row in leaking]
    correlation = _correlation(facts, rows)
    return " ".join(text for text in (*said, correlation) if text)


def _where(row: Row) -> str:
    """Of a language that answers most harmful prompts untouched: separable by itself, and where its prompts lie."""
    name = language_name(text_of(row, "language"))
    auc, margin = real_of(row, "auc"), real_of(row, "margin")
    if auc is None:
        return ""
    answered = (
        f"{name}, where {percent(real_of(row, 'baseline_compliance'))} of harmful prompts are answered untouched:"
    )
    apart = (
        f"harmful prompts are told apart from harmless ones by themselves (AUC {number(auc)})"
        if auc >= APART
        else f"harmful and harmless prompts are hardly told apart (AUC {number(auc)})"
    )
    if margin is None:
        return f"{answered} {apart}."
    if margin < 0:
        joined = "but lie" if auc >= APART else "and lie"
        return (
            f"{answered} {apart}, {joined} below the threshold that the other languages share (margin"
            f" {number(margin)}, which the chart shows): the line that serves the others misses them."
        )
    joined = "and lie" if auc >= APART else "though they lie"
    close = (
        ": the model sees them and answers, so it is the action that fails, not the representation."
        if auc >= APART
        else "."
    )
    return (
        f"{answered} {apart}, {joined} above the threshold that the other languages share (margin {number(margin)}, which"
        f" the chart shows){close}"
    )


def _correlation(facts: Facts, rows: list[Row]) -> str:
    leak = as_map(as_map(facts.inputs.summaries.get("geometry")).get("leak"))
    rho, low, high, n = (
        float(value) if isinstance(value := leak.get(name), (int, float)) else None
        for name in ("rho", "low", "high", "n")
    )
    if rho is None or low is None or high is None:
        return ""
    count = len(rows) if n is None else int(n)
    if count < LEAST:
        return f"Over {count} languages no rank correlation is stated: at least {LEAST} are needed."
    for column, what in (
        ("baseline_compliance", "answer the same share of harmful prompts"),
        ("margin", "have the same margin"),
    ):
        values = Counter(round(value, 9) for row in rows if (value := real_of(row, column)) is not None)
        most = max(values.values(), default=0)
        if 2 * most > sum(values.values()):
            return (
                f"No rank correlation over languages is stated: {most} of {sum(values.values())} languages {what}, so"
                " ranks say little."
            )
    measured = f"(Spearman \u03c1 = {number(rho)}, 95 % interval {number(low)} to {number(high)}, {count} languages)"
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
