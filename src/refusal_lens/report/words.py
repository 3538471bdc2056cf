"""The headline in plain words, generated from the numbers and hedged as the numbers are.

Order: what the model does untouched, the worst languages named first; over-refusal; how far the judge is to be believed;
then what one direction explains. A mean never stands without its extremes. A change is larger than chance in a language by
the verdict's own rule (`Facts.raised`); without paired tests nothing is called so. Nothing is called universal here: that
word belongs to the verdict, and comes with the number of languages that could show it.
"""

from __future__ import annotations

from dataclasses import dataclass

from refusal_lens.core.tables import SelectionRow
from refusal_lens.report.facts import Facts, as_map, source_name
from refusal_lens.report.shares import Share, number, percent
from refusal_lens.report.spread import extremes, spread_words, worst_and_rest
from refusal_lens.report.text import listing

SMALL_N = 50
MANY = 0.10
MOST = 0.5
COULD_SHOW = ("served", "weak", "not served")
VERDICTS = {
    "universal": "One direction carries refusal in {could} that could show it{rest}.",
    "partly": "One direction carries refusal in {served} of {could} that could show it{rest}.",
    "language-specific": "Directions do not carry over between languages: {served} of {could} that could show it{rest}.",
    "no valid direction": "No direction that carries refusal was found.",
    "undefined": "The evidence of this run decides nothing, either way: {could} could show a transfer{rest}.",
}


@dataclass(frozen=True)
class Statement:
    """One sentence or two; `tone` is `plain` or `caution`."""

    text: str
    tone: str = "plain"


def verdict_of(facts: Facts) -> tuple[str, str] | None:
    """The verdict and what it means, with the number of languages that could show it; None when the run has none."""
    found = as_map(facts.inputs.summaries.get("verdict"))
    verdict = found.get("verdict")
    if (
        not isinstance(verdict, str) or facts.config.get("baseline_only") is True
    ):  # nothing was asked that it could answer
        return None
    statuses = [as_map(item).get("status") for item in as_map(found.get("languages")).values()]
    could, served = sum(status in COULD_SHOW for status in statuses), statuses.count("served")
    rest = f", {len(statuses)} tested" if could < len(statuses) else ""
    counted = {0: "no language", 1: "the one language"}.get(could, f"{could} languages")
    if verdict == "universal" and could > 1:
        counted = f"all {counted}"
    if verdict == "undefined" and could == 1:
        counted = "one language alone"
    return verdict, VERDICTS.get(verdict, "").format(could=counted, served=served or "none", rest=rest)


def headline(facts: Facts) -> list[Statement]:
    """What the run found, in the order in which a reader must know it."""
    return [statement for said in found(facts).values() for statement in said]


def found(facts: Facts) -> dict[str, list[Statement]]:
    """The same by what it is about: untouched, sure, judge, direction; what belongs to none of them stands first, as `all`."""
    if not facts.sources and not facts.cells:
        return {"all": [Statement("This run has no results yet.", "caution")]}
    return {
        "all": _inexact(facts),
        "untouched": _untouched(facts),
        "sure": _sure(facts),
        "judge": _judge(facts),
        "direction": _with_direction(facts) if facts.main_source else _without_direction(facts),
    }


def best_discarded(facts: Facts, source: str) -> SelectionRow | None:
    """The candidate a source without a valid direction would have had."""
    row = facts.selection.get(source)
    return row if row is not None and row["layer"] is not None else None


def candidate_words(row: SelectionRow) -> str:
    """A candidate in words: place, and the scores that were measured."""
    said = [
        text.format(number(value, digits=digits))
        for value, text, digits in (
            (row["refusal_score"], "refusal score {} when ablated", 2),
            (row["steering_score"], "{} when added", 2),
            (row["kl_div_score"], "KL {}", 3),
        )
        if value is not None
    ]
    place = f"position {row['position']}, layer {row['layer']}".replace("-", "−")
    return f"{place} ({', '.join(said)})" if said else place


def _inexact(facts: Facts) -> list[Statement]:
    """A warning above all numbers of a model that failed its checks, where that was accepted."""
    failed = as_map(facts.inputs.header.get("checks")).get("inexact")
    text = f"Every number on this page is inexact: the model failed its checks ({failed}), as accepted."
    return [Statement(text, "caution")] if failed else []


def _untouched(facts: Facts) -> list[Statement]:
    said = (
        spread_words(
            facts.headline, lambda row: row.harmful_baseline, "Without any attack it answers", "harmful prompts"
        ),
        spread_words(facts.headline, lambda row: row.harmless_baseline, "It refuses", "harmless prompts"),
    )
    return [Statement(text) for text in said if text]


def _judge(facts: Facts) -> list[Statement]:
    known = {row.name: facts.reliability(row.language) for row in facts.headline}
    short = {name: found for name, found in known.items() if found and not found.validated}
    weak = [f"{name} (κ = {number(found.kappa)})" for name, found in short.items() if not found.agrees]
    few = [f"{name} (n = {found.n})" for name, found in short.items() if found.agrees]
    unknown = [name for name, found in known.items() if found is None]
    if not facts.judge or not known:
        return []
    name = facts.judge.partition("+")[0]
    if len(unknown) == len(known):
        text = "was never measured against reference labels in these languages: read answers before you believe a rate."
        return [Statement(f"The judge ({name}) {text}", "caution")]
    good = len(known) - len(short) - len(unknown)
    text = f"The judge ({name}) agrees well with reference labels in {good} of {len(known)} languages"
    parts = [f"weakly in {listing(weak)}"] * bool(weak) + [f"on too few answers in {listing(few)}"] * bool(few)
    parts += [f"was never measured in {listing(unknown)}"] * bool(unknown)
    if not parts:
        return [Statement(f"{text}.")]
    return [Statement(f"{text}, {listing(parts)}: there no rate of this page decides alone.", "caution")]


def _with_direction(facts: Facts) -> list[Statement]:
    if facts.average("harmful_baseline") is None or facts.average("harmful_ablated") is None:
        return [
            Statement(
                "Ablation was not measured on harmful prompts in this run, so nothing can be said about it.", "caution"
            )
        ]
    null = facts.average("harmful_random")
    text = (
        f"With the {source_name(facts.main_source or '')} refusal direction ablated, it answers"
        f" {_mean(facts, 'harmful_ablated', 'harmful prompts')}, untouched {_mean(facts, 'harmful_baseline')}."
    )
    text += (
        f" Random directions of the same size leave it at {percent(null)}."
        if null is not None
        else " No random direction was run, so there is no null to compare with."
    )
    seen = {row.name: result for row in facts.headline if (result := facts.raised(row.language)) is not None}
    first = Statement(f"{text} {_raised_words(seen)}".strip())
    return [first, *_hollow(facts), *_addition(facts), *_others(facts), *_little_left(facts)]


def _raised_words(seen: dict[str, bool]) -> str:
    if not seen:
        return ""
    up = [name for name, result in seen.items() if result]
    down = [name for name, result in seen.items() if not result]
    if not down:
        return "The rise is larger than chance in " + (
            "the one language tested." if len(up) == 1 else f"all {len(up)} languages."
        )
    if not up:
        return f"In none of the {len(down)} languages is the rise larger than chance."
    named, held = (down, "not seen in") if len(down) <= len(up) else (up, "seen in")
    return f"The rise is larger than chance in {len(up)} of {len(seen)} languages ({held} {listing(named)})."


def _hollow(facts: Facts) -> list[Statement]:
    after, before = _on_topic(facts, "ablation"), _on_topic(facts, "baseline")
    if not after[1]:
        return []
    text = (
        f"Of the answers given after ablation whose topic could be checked, {percent(after[0] / after[1])} keep to the topic"
        " asked; the rest does not refuse but is hollow."
    )
    if before[1]:
        text += f" Of the {before[1]} answers given untouched, {percent(before[0] / before[1])} do."
    return [Statement(text)]


def _on_topic(facts: Facts, intervention: str) -> tuple[int, int]:
    """Answers to harmful prompts that keep to the topic, and all whose topic could be checked."""
    rows = [row for code in facts.languages if (row := facts.topic(code, intervention=intervention))]
    return sum(row["on_topic"] for row in rows), sum(row["on_topic"] + row["hollow"] for row in rows)


def _addition(facts: Facts) -> list[Statement]:
    null = facts.average("harmless_random")
    if facts.average("harmless_added") is None:
        return []
    text = f"With the direction added, it refuses {_mean(facts, 'harmless_added', 'harmless prompts')}"
    text += f"; random directions {percent(null)}." if null is not None else "."
    unscored = _unscored_share([row.harmless_added for row in facts.headline])
    if unscored > MANY:
        text += f" {percent(unscored)} of these answers could not be judged: addition at this strength often breaks the text."
    return [Statement(text)]


def _others(facts: Facts) -> list[Statement]:
    """What every further intervention did where it is read."""
    said: list[Statement] = []
    for item in facts.interventions:
        if item.name in ("ablation", "addition"):
            continue
        shares = {row.language: facts.share(item.name, row.language, item.reads_on) for row in facts.headline}
        verb, with_it = "answers" if item.reads_on == "harmful" else "refuses", f"With the direction {item.done}"
        text = spread_words(
            facts.headline,
            lambda row, shares=shares: shares[row.language],
            f"{with_it}, it {verb}",
            f"{item.reads_on} prompts",
        )
        unscored = _unscored_share(list(shares.values()))
        if unscored > MANY:
            broken = f"{with_it}, {percent(unscored)} of its answers to {item.reads_on} prompts could not be judged."
            said.append(Statement(f"{text} {broken}".strip(), "caution"))
        elif text:
            said.append(Statement(text))
    return said


def _without_direction(facts: Facts) -> list[Statement]:
    if facts.config.get("baseline_only") is True:
        return [Statement("The untouched model alone was measured (--baseline-only): no direction was asked for.")]
    found: list[Statement] = []
    for source in facts.sources:
        row = facts.selection.get(source)
        why = f": {row['reason'].rstrip('.')}" if row is not None and row["reason"] else ""
        text = f"No valid refusal direction was found from {source_name(source)}{why}. Nothing was ablated or added."
        best = best_discarded(facts, source)
        found.append(Statement(text))
        if best is not None:
            found.append(Statement(f"The best candidate it would have had: {candidate_words(best)}."))
    return found


def _little_left(facts: Facts) -> list[Statement]:
    shares = [(row.name, row.harmful_baseline) for row in facts.headline if row.harmful_baseline]
    leaking = [name for name, share in shares if (share.low or 0.0) > MOST]
    text = f"In {listing(leaking)} ablation has little left to remove: most harmful prompts are answered untouched."
    return [Statement(text, "caution")] if leaking else []


def _sure(facts: Facts) -> list[Statement]:
    """What so many prompts leave possible, and answers that could not be judged or were cut."""
    before = [(row.name, row.harmful_baseline) for row in facts.headline if row.harmful_baseline]
    after = [(row.name, row.harmful_ablated) for row in facts.headline if row.harmful_ablated]
    said = _possible(facts)
    bad = [name for name, share in after if _unscored_share([share]) > MANY]
    if bad:
        text = f"More than {percent(MANY)} of the answers after ablation could not be judged in {listing(bad)}."
        said.append(Statement(text, "caution"))
    cut = [share for _, share in (*before, *after) if share.truncated is not None]
    shortened = sum(share.truncated or 0 for share in cut) / (sum(share.n for share in cut) or 1)
    if shortened > MOST:
        text = (
            f"{percent(shortened)} of the judged answers to harmful prompts were cut at the token limit: what they would have"
            " gone on to say is not known."
        )
        said.append(Statement(text, "caution"))
    return said


def _possible(facts: Facts) -> list[Statement]:
    """The highest rate that the intervals of the languages that do not stand out leave possible."""
    above, rest = worst_and_rest(facts.headline, lambda row: row.harmful_baseline)
    sizes = [share.n for _, share in (*above, *rest) if share.n]
    highest = max((share.high for _, share in rest if share.high is not None), default=None)
    if not sizes:
        return []
    fewest = min(sizes)
    few = fewest < SMALL_N
    text = f"{'As few as ' if few else ''}{fewest} judged prompts a language"
    where = "any language" if not above else f"the other {len(rest)}"
    where = rest[0][0].name if len(rest) == 1 else where
    told = not any(share.k for _, share in (*above, *rest))  # beside "none of the harmful prompts"
    if highest is not None and highest < 1 and not told:
        text += f" leave rates of up to {percent(highest)} possible in {where}{': read' if few else '.'}"
    elif few:
        text += ": read"
    else:
        return []
    return [Statement(f"{text} the intervals, not the points." if few else text, "caution" if few else "plain")]


def _mean(facts: Facts, column: str, what: str = "") -> str:
    """Mean over languages of a headline column, never without its extremes."""
    average, ends = f"{percent(facts.average(column))}{f' of {what}' if what else ''}", extremes(facts, column)
    return f"{average} (mean; {ends})" if ends else average


def _unscored_share(shares: list[Share | None]) -> float:
    asked = sum(share.n + share.unscored for share in shares if share)
    return sum(share.unscored for share in shares if share) / asked if asked else 0.0
