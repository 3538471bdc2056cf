"""The headline in plain words, generated from the numbers and hedged as the numbers are.

Rules: a change is larger than chance in a language by the verdict's own rule (`Facts.raised`); without paired tests
nothing is called so. A mean over languages carries its range. Nothing is called universal here: that word belongs to the
verdict, and comes with the number of languages that could show it.
"""

from __future__ import annotations

from dataclasses import dataclass

from refusal_lens.report.facts import Facts, HeadlineRow, as_map, source_name
from refusal_lens.report.inputs import Row, count_of, real_of, text_of
from refusal_lens.report.shares import Share, number, percent
from refusal_lens.report.text import listing

SMALL_N = 50
MANY_UNSCORED = 0.10
HIGH_BASELINE = 0.5
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
    if not isinstance(verdict, str):
        return None
    statuses = [as_map(item).get("status") for item in as_map(found.get("languages")).values()]
    could, served = sum(status in COULD_SHOW for status in statuses), statuses.count("served")
    if not statuses:
        return verdict, "The verdict names no language." if verdict in VERDICTS else ""
    rest = f", {len(statuses)} tested" if could < len(statuses) else ""
    counted = {0: "no language", 1: "the one language"}.get(could, f"{could} languages")
    if verdict == "universal" and could > 1:
        counted = f"all {counted}"
    return verdict, VERDICTS.get(verdict, "").format(could=counted, served=served or "none", rest=rest)


def headline(facts: Facts) -> list[Statement]:
    """What the run found, most important first."""
    found = [*_ablation(facts), *_hollow(facts), *_addition(facts)] if facts.main_source else _without_direction(facts)
    return [*found, *_over_refusal(facts), *_cautions(facts)]


def best_discarded(facts: Facts, source: str) -> Row | None:
    """The candidate a source without a valid direction would have had."""
    row = facts.selection.get(source)
    return row if row is not None and real_of(row, "layer") is not None else None


def candidate_words(row: Row) -> str:
    """A candidate in words: place, and the scores that were measured."""
    scores = (
        ("refusal_score", "refusal score {} when ablated", 2),
        ("steering_score", "{} when added", 2),
        ("kl_div_score", "KL {}", 3),
    )
    said = [
        words.format(number(value, digits=digits))
        for name, words, digits in scores
        if (value := real_of(row, name)) is not None
    ]
    place = f"position {number(real_of(row, 'position'), digits=0)}, layer {number(real_of(row, 'layer'), digits=0)}"
    return f"{place} ({', '.join(said)})" if said else place


def _ablation(facts: Facts) -> list[Statement]:
    before, after, null = (facts.average(name) for name in ("harmful_baseline", "harmful_ablated", "harmful_random"))
    if before is None or after is None:
        return [
            Statement(
                "Ablation was not measured on harmful prompts in this run, so nothing can be said about it.",
                "caution",
            )
        ]
    ranged = _range([row.harmful_ablated for row in facts.headline])
    text = (
        f"With the {source_name(facts.main_source or '')} refusal direction ablated, the model answers"
        f" {percent(after)} of harmful prompts{ranged}; untouched it answers"
        f" {percent(before)}{_range([row.harmful_baseline for row in facts.headline])}."
    )
    text += (
        f" Random directions of the same size leave it at {percent(null)}."
        if null is not None
        else " No random direction was run, so there is no null to compare with."
    )
    found = [Statement(text)]
    seen = {row: result for row in facts.headline if (result := facts.raised(row.language)) is not None}
    if seen:
        found.append(Statement(_moved_words(seen)))
    return found


def _moved_words(seen: dict[HeadlineRow, bool]) -> str:
    up = [row.name for row, result in seen.items() if result]
    down = [row.name for row, result in seen.items() if not result]
    if not down:
        return (
            "The rise is larger than chance in the one language tested."
            if len(up) == 1
            else f"The rise is larger than chance in all {len(up)} languages."
        )
    if not up:
        return f"In none of the {len(down)} languages is the rise larger than chance."
    named = listing(down if len(down) <= len(up) else up)
    held = "not seen in" if len(down) <= len(up) else "seen in"
    return f"The rise is larger than chance in {len(up)} of {len(seen)} languages ({held} {named})."


def _hollow(facts: Facts) -> list[Statement]:
    rows = [
        row
        for row in facts.main_rows("content")
        if (text_of(row, "intervention"), text_of(row, "source"), text_of(row, "prompts", "harmful"))
        == ("ablation", facts.main_source, "harmful")
    ]
    on_topic, hollow = (sum(count_of(row, name) for row in rows) for name in ("on_topic", "hollow"))
    if not on_topic + hollow:
        return []
    share = percent(on_topic / (on_topic + hollow))
    return [
        Statement(
            f"Of the answers given after ablation whose topic could be checked, {share} keep to the topic asked; the"
            " rest does not refuse but is hollow."
        )
    ]


def _addition(facts: Facts) -> list[Statement]:
    before, after, null = (facts.average(name) for name in ("harmless_baseline", "harmless_added", "harmless_random"))
    if after is None:
        return []
    text = (
        f"With the direction added, it refuses {percent(after)} of harmless"
        f" prompts{_range([row.harmless_added for row in facts.headline])}; untouched {percent(before)}"
    )
    text += f", random directions {percent(null)}." if null is not None else "."
    unscored = _unscored_share([row.harmless_added for row in facts.headline])
    if unscored > MANY_UNSCORED:
        text += (
            f" {percent(unscored)} of these answers could not be judged at all: addition at this strength often"
            " breaks the text."
        )
    return [Statement(text)]


def _without_direction(facts: Facts) -> list[Statement]:
    if not facts.sources and not facts.cells:
        return [Statement("This run has no results yet.", "caution")]
    found: list[Statement] = []
    for source in facts.sources:
        row = facts.selection.get(source)
        why = text_of(row, "reason") if row is not None else ""
        found.append(
            Statement(
                "No valid refusal direction was found from"
                f" {source_name(source)}{': ' + why.rstrip('.') if why else ''}. Nothing was ablated or added."
            )
        )
        best = best_discarded(facts, source)
        if best is not None:
            found.append(Statement(f"The best candidate it would have had: {candidate_words(best)}."))
    before = facts.average("harmful_baseline")
    if before is not None:
        found.append(
            Statement(
                f"Untouched, the model answers {percent(before)} of harmful"
                f" prompts{_range([row.harmful_baseline for row in facts.headline])}."
            )
        )
    return found


def _over_refusal(facts: Facts) -> list[Statement]:
    refused = facts.average("harmless_baseline")
    if refused is None or refused <= 0.05:
        return []
    worst = max(facts.headline, key=lambda row: (row.harmless_baseline.rate or 0.0) if row.harmless_baseline else 0.0)
    share = worst.harmless_baseline
    assert share is not None
    return [
        Statement(
            f"Untouched, it also refuses {percent(refused)} of harmless prompts, most in {worst.name}"
            f" ({percent(share.rate)})."
        )
    ]


def _cautions(facts: Facts) -> list[Statement]:
    found: list[Statement] = []
    leaking = [
        row.name
        for row in facts.headline
        if row.harmful_baseline and row.harmful_baseline.low is not None and row.harmful_baseline.low > HIGH_BASELINE
    ]
    if leaking:
        found.append(
            Statement(
                f"In {listing(leaking)} the untouched model already answers most harmful prompts: there ablation has"
                " little left to remove.",
                "caution",
            )
        )
    sizes = [row.harmful_baseline.n for row in facts.headline if row.harmful_baseline and row.harmful_baseline.n]
    if sizes and min(sizes) < SMALL_N:
        found.append(
            Statement(
                f"As few as {min(sizes)} judged prompts per language: read the intervals, not the points.", "caution"
            )
        )
    bad = [
        row.name
        for row in facts.headline
        if row.harmful_ablated and _unscored_share([row.harmful_ablated]) > MANY_UNSCORED
    ]
    if bad:
        found.append(
            Statement(
                f"More than {percent(MANY_UNSCORED)} of the answers after ablation could not be judged in"
                f" {listing(bad)}.",
                "caution",
            )
        )
    return found


def _unscored_share(shares: list[Share | None]) -> float:
    asked = sum(share.n + share.unscored for share in shares if share)
    return sum(share.unscored for share in shares if share) / asked if asked else 0.0


def _range(shares: list[Share | None]) -> str:
    rates = [share.rate for share in shares if share and share.rate is not None]
    if len(rates) < 2:
        return ""
    return f" ({percent(min(rates))} to {percent(max(rates))} over {len(rates)} languages)"
