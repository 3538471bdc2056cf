"""The results part of the page: which figures, tables and sentences stand where, and what is said when one is missing.

Order: what the model does untouched and how far the judge is to be believed, then what one direction explains, then geometry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from refusal_lens.core.names import is_null
from refusal_lens.core.tables import CANDIDATES, CONTENT, TRANSFER, SelectionRow
from refusal_lens.measure.panel import disagree
from refusal_lens.report import charts, tables
from refusal_lens.report.drilldown import prompts_table
from refusal_lens.report.facts import Facts, as_map, language_name, source_name, words
from refusal_lens.report.inputs import TABLES
from refusal_lens.report.leaks import leak_words
from refusal_lens.report.shares import percent
from refusal_lens.report.text import listing
from refusal_lens.report.views import Block, Figure, Note, Section, Table
from refusal_lens.report.words import best_discarded, candidate_words


def result_sections(facts: Facts) -> list[Section]:
    """All result sections, in reading order."""
    return [
        Section("untouched", "What the model does untouched", _untouched(facts)),
        Section("judge", "Is the judge to be believed?", _judge(facts)),
        Section("verdict", "Is the direction universal?", _verdict(facts)),
        Section("languages", "Language by language", _languages(facts)),
        Section("content", "What ablation really did", _content(facts)),
        Section("transfer", "From language to language", _transfer(facts)),
        Section("selection", "Finding the direction", _selection(facts)),
        Section("geometry", "Geometry", _geometry(facts)),
        Section("leaks", "Why languages leak", _leaks(facts)),
    ]


def _untouched(facts: Facts) -> list[Block]:
    if not facts.cells:
        return [missing("rates")]
    return _present(tables.untouched_table(facts), charts.untouched_figure(facts), tables.thoughts_table(facts))


def _judge(facts: Facts) -> list[Block]:
    table, panel = tables.judge_table(facts), _present(tables.panel_table(facts))
    if table is None:
        named = (
            f"this judge ({facts.judge.partition('+')[0]})"
            if facts.judge
            else "the judge, which this run does not name,"
        )
        return [
            Note(f"The agreement of {named} with reference labels was never measured in these languages.", "caution"),
            *panel,
        ]
    return [table, *panel]


def _verdict(facts: Facts) -> list[Block]:
    verdict = as_map(facts.inputs.summaries.get("verdict"))
    if not verdict:
        return [
            Note(
                "This run has no verdict (tables/verdict.json is absent): the rules need the transfer matrix of a finished"
                " run.",
                "missing",
            )
        ]
    reasons = [Note(_sentence(_named(reason, facts))) for reason in words(verdict.get("reasons"))]
    return [*reasons, *_present(tables.verdict_table(facts, verdict))]


def _languages(facts: Facts) -> list[Block]:
    blocks = _present(tables.headline_view(facts) if facts.cells else None)
    if facts.main_source is None:
        words = "Only the untouched model was measured: without a valid direction there is nothing to ablate or add."
        blocks.append(Note(words, "missing"))
    blocks += _present(charts.harmful_figure(facts), charts.harmless_figure(facts))
    return [*blocks, *_present(*(tables.extra_set(facts, name) for name in facts.extra_sets), prompts_table(facts))]


def _content(facts: Facts) -> list[Block]:
    if facts.main_source is None:
        return [Note("No direction was ablated in this run.", "missing")]
    figure = charts.content_figure(facts) if facts.inputs.rows(CONTENT) else missing("content")
    return [*_present(figure, tables.selectivity_table(facts)), tables.damage_table(facts) or missing("damage")]


def _selection(facts: Facts) -> list[Block]:
    blocks: list[Block] = []
    for source, row in facts.selection.items():
        if source in facts.valid_sources:
            continue
        reason = row["reason"] or "no reason was recorded"
        blocks.append(Note(f"No valid direction from {source_name(source)}: {_sentence(reason)}", "caution"))
        best = best_discarded(facts, source)
        if best is not None:
            why = _why_dropped(facts, best)
            dropped = f", dropped because: {why}" if why else ""
            blocks.append(Note(f"The best candidate it would have had: {candidate_words(best)}{dropped}."))
    table, figure = tables.selection_table(facts), charts.selection_figure(facts)
    return [*blocks, table or missing("selection"), figure or missing("candidates")]


def _why_dropped(facts: Facts, best: SelectionRow) -> str:
    place = (best["source"], best["position"], best["layer"])
    for row in facts.inputs.rows(CANDIDATES):
        if (row["source"], row["position"], row["layer"]) == place:
            return (row["discarded"] or "").rstrip(".")
    return ""


def _transfer(facts: Facts) -> list[Block]:
    if not facts.inputs.rows(TRANSFER):
        return [missing("transfer")]
    blocks: list[Block] = []
    if len(facts.valid_sources) == 1:
        alone = source_name(facts.valid_sources[0])
        more = "--sources all fills the matrix and says whether every language's direction serves the others."
        blocks.append(Note(f"Directions come from {alone} alone; {more}"))
    apart = [row for row in facts.inputs.rows(TRANSFER) if disagree(row) and not is_null(row["source"])]
    if apart:
        told = listing([f"{source_name(row['source'])} in {language_name(row['target'])}" for row in apart])
        blocks.append(
            Note(f"The judges disagree about the direction of these effects, which are no result: {told}.", "caution")
        )
    return [*blocks, *_present(*(charts.transfer_figure(facts, item.name) for item in facts.interventions))]


def _geometry(facts: Facts) -> list[Block]:
    blocks: list[Block] = [
        *(_present(charts.cosine_figure(facts), charts.layers_figure(facts)) or [missing("cosines")]),
        charts.projection_figure(facts) or missing("projection"),
        *_present(tables.sharing_table(facts)),
    ]
    stability = as_map(as_map(facts.inputs.summaries.get("geometry")).get("stability"))
    said = [
        f"the same {what} in {percent(float(value))}"
        for name, what in (("same_site", "position and layer"), ("same_layer", "layer"))
        if isinstance(value := stability.get(name), (int, float))
    ]
    if said:
        blocks.append(Note(f"Selection repeated on resampled validation prompts chose {listing(said)} of the draws."))
    return blocks


def _leaks(facts: Facts) -> list[Block]:
    written = leak_words(facts)
    shown = charts.leak_figure(facts) or charts.separation_table(facts) or missing("separation")
    return _present(Note(written) if written else None, shown, charts.along_figure(facts))


def figures_of(sections: Sequence[Section]) -> list[Figure]:
    """All figures of the page, in order."""
    return [block for section in sections for block in section.blocks if isinstance(block, Figure)]


def missing(table: str) -> Note:
    """What stands in the place of a table that the run does not have."""
    return Note(f"Not in this run: {TABLES[table]} (tables/{table}.parquet is absent or empty).", "missing")


def _present(*blocks: Block | Table | Figure | None) -> list[Block]:
    return [block for block in blocks if block is not None]


def _named(text: str, facts: Facts) -> str:
    """A sentence of the verdict with languages by name: codes are replaced where they stand as names, not as words."""
    codes = "|".join(re.escape(code) for code in sorted(facts.languages, key=len, reverse=True))
    if not codes:
        return text
    place = rf"(^|, |: |\(|\b(?:of|in) )({codes})(?=$|[,:;)]| itself| \()"
    while (changed := re.sub(place, lambda found: found[1] + language_name(found[2]), text)) != text:
        text = changed
    return text


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
