"""The head of the page: what was found as answers to questions, what to do next for each reader, and the large numbers."""

from __future__ import annotations

from collections.abc import Sequence

from refusal_lens.report.facts import Facts, source_name
from refusal_lens.report.shares import percent
from refusal_lens.report.spread import NAMED, extremes, worst_and_rest
from refusal_lens.report.text import listing
from refusal_lens.report.views import Cell
from refusal_lens.report.words import MOST, Statement, found

QUESTIONS = {
    "untouched": "Does it leak untouched?",
    "sure": "How sure is that?",
    "judge": "Is the judge to be trusted?",
    "direction": "Would one direction open the rest?",
}


def answers(facts: Facts) -> list[tuple[str, str, Sequence[Statement]]]:
    """Key, question and answer, in the order in which a reader must know them; what belongs to no question has none."""
    return [(about, QUESTIONS.get(about, ""), said) for about, said in found(facts).items() if said]


def for_readers(facts: Facts) -> list[tuple[str, str]]:
    """What to do next: who decides on a release, who studies the model, who defends it."""
    leaks, rest = worst_and_rest(facts.headline, lambda row: row.harmful_baseline)
    if not leaks and not rest:
        return []
    release = f"Look at {listing([row.name for row, _ in leaks[:NAMED]])} first" if leaks else "No language stands out"
    untouched = [row.harmful_baseline.rate or 0.0 for row in facts.headline if row.harmful_baseline is not None]
    if not leaks and min(untouched, default=0.0) > MOST:
        release = "It refuses little in any language, so that none stands out: read answers (refusal-lens view) before all else"
    doubted = [
        row.name for row, _ in leaks[:NAMED] if not ((known := facts.reliability(row.language)) and known.validated)
    ]
    if doubted and facts.judge:
        release += f"; read answers in {listing(doubted)} (refusal-lens view), where the judge may not decide alone"
    said = [("Before a release", f"{release}. refusal-lens gate decides against your limit.")]
    if len(facts.valid_sources) == 1:
        alone = f"All of this rests on the direction from {source_name(facts.valid_sources[0])}:"
        said.append(("Research", f"{alone} --sources all says whether any language's direction would do."))
    elif facts.valid_sources:
        tried = f"Directions from {len(facts.valid_sources)} languages were tried on every language:"
        said.append(("Research", f"{tried} the evidence is the transfer matrix beside its nulls, not the cosines."))
    tested = [result for row in facts.headline if (result := facts.raised(row.language)) is not None]
    if facts.main_source and tested:
        wide_open = [row.name for row, share in leaks if (share.low or 0.0) > MOST]
        opened = f"Whoever holds the weights opens {sum(tested)} of {len(tested)} languages by removing one direction"
        aimed = f"; {listing(wide_open)} {'is' if len(wide_open) == 1 else 'are'} open without it" if wide_open else ""
        said.append(("Defence", f"{opened}{aimed}. refusal-lens monitor and defence-bench measure what helps."))
    return said


def tiles(facts: Facts) -> list[tuple[str, list[Cell]]]:
    """Large numbers at the head of the page: means over languages, each with its least and its most."""
    groups = {
        "Harmful prompts answered": (
            ("untouched", "harmful_baseline", "untouched"),
            ("direction ablated", "harmful_ablated", "ablated"),
            ("random ablated", "harmful_random", "random"),
        ),
        "Harmless prompts refused": (
            ("untouched", "harmless_baseline", "untouched"),
            ("direction added", "harmless_added", "added"),
            ("random added", "harmless_random", "random"),
        ),
    }
    found: list[tuple[str, list[Cell]]] = []
    for title, columns in groups.items():
        cells = [
            Cell(percent(value), note=label, more=extremes(facts, column), tone=tone, at=value)
            for label, column, tone in columns
            if (value := facts.average(column)) is not None
        ]
        if cells:
            found.append((title, cells))
    return found
