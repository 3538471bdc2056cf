"""The results part of the page: which figures, tables and sentences stand where, and what is said when one is missing."""

from __future__ import annotations

from collections.abc import Sequence

from refusal_lens.report import charts, tables
from refusal_lens.report.facts import Facts, as_map, source_name, words
from refusal_lens.report.inputs import Row, real_of, text_of
from refusal_lens.report.leaks import leak_words
from refusal_lens.report.shares import percent
from refusal_lens.report.text import listing
from refusal_lens.report.views import Block, Figure, Note, Section, Table
from refusal_lens.report.words import best_discarded, candidate_words


def result_sections(facts: Facts) -> list[Section]:
    """All result sections, in reading order."""
    return [
        Section("languages", "Language by language", _languages(facts)),
        Section("verdict", "Is the direction universal?", _verdict(facts)),
        Section("content", "What ablation really did", _content(facts)),
        Section("selection", "Finding the direction", _selection(facts)),
        Section("transfer", "From language to language", _transfer(facts)),
        Section("geometry", "Geometry", _geometry(facts)),
        Section("leaks", "Why languages leak", _leaks(facts)),
    ]


def _languages(facts: Facts) -> list[Block]:
    if not facts.cells:
        return [_missing("rates")]
    blocks: list[Block] = [*_inexact(facts), tables.headline_view(facts)]
    if facts.main_source is None:
        blocks.append(
            Note(
                "Only the untouched model was measured: without a valid direction there is nothing to ablate or add.",
                "missing",
            )
        )
    blocks += _present(charts.harmful_figure(facts), charts.harmless_figure(facts))
    for name in facts.extra_sets:
        blocks += _present(tables.extra_set(facts, name))
    return blocks


def _inexact(facts: Facts) -> list[Block]:
    """A warning above all numbers of a model that failed its checks, where that was accepted."""
    failed = as_map(facts.inputs.header.get("checks")).get("inexact")
    if not failed:
        return []
    return [
        Note(f"Every number on this page is inexact: the model failed its checks ({failed}), as accepted.", "caution")
    ]


def _verdict(facts: Facts) -> list[Block]:
    verdict = as_map(facts.inputs.summaries.get("verdict"))
    if not verdict:
        return [
            Note(
                "This run has no verdict (tables/verdict.json is absent): the rules need the transfer matrix of a"
                " finished run.",
                "missing",
            )
        ]
    blocks: list[Block] = [Note(_sentence(reason)) for reason in words(verdict.get("reasons"))]
    return [*blocks, *_present(tables.verdict_table(facts, verdict))]


def _content(facts: Facts) -> list[Block]:
    if facts.main_source is None:
        return [Note("No direction was ablated in this run.", "missing")]
    blocks: list[Block] = []
    if facts.inputs.rows("content"):
        blocks += _present(charts.content_figure(facts))
    else:
        blocks.append(_missing("content"))
    blocks += _present(tables.selectivity_table(facts))
    blocks += _present(tables.damage_table(facts)) or [_missing("damage")]
    return blocks


def _selection(facts: Facts) -> list[Block]:
    blocks: list[Block] = []
    for source in facts.sources:
        row = facts.selection.get(source)
        if row is None or source in facts.valid_sources:
            continue
        reason = text_of(row, "reason") or "no reason was recorded"
        blocks.append(Note(f"No valid direction from {source_name(source)}: {_sentence(reason)}", "caution"))
        best = best_discarded(facts, source)
        if best is not None:
            why = _why_dropped(facts, source, best)
            blocks.append(
                Note(
                    "The best candidate it would have had:"
                    f" {candidate_words(best)}{f', dropped because: {why}' if why else ''}."
                )
            )
    blocks += _present(tables.selection_table(facts)) or [_missing("selection")]
    return [*blocks, *(_present(charts.selection_figure(facts)) or [_missing("candidates")])]


def _why_dropped(facts: Facts, source: str, best: Row) -> str:
    place = (real_of(best, "position"), real_of(best, "layer"))
    for row in facts.inputs.rows("candidates"):
        if text_of(row, "source") == source and (real_of(row, "position"), real_of(row, "layer")) == place:
            return text_of(row, "discarded").rstrip(".")
    return ""


def _transfer(facts: Facts) -> list[Block]:
    if not facts.inputs.rows("transfer"):
        return [_missing("transfer")]
    blocks: list[Block] = []
    if len(facts.valid_sources) == 1:
        blocks.append(
            Note(
                f"Directions come from {source_name(facts.valid_sources[0])} alone; `--sources all` fills the matrix"
                " and says whether every language's direction serves the others.".replace("`", "")
            )
        )
    return [*blocks, *_present(charts.transfer_figure(facts, "ablation"), charts.transfer_figure(facts, "addition"))]


def _geometry(facts: Facts) -> list[Block]:
    blocks: list[Block] = []
    blocks += _present(charts.cosine_figure(facts), charts.layers_figure(facts)) or [_missing("cosines")]
    blocks += _present(charts.projection_figure(facts)) or [_missing("projection")]
    blocks += _present(tables.sharing_table(facts))
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
    blocks: list[Block] = []
    written = leak_words(facts)
    if written:
        blocks.append(Note(written))
    figure = charts.leak_figure(facts)
    table = charts.separation_table(facts)
    if figure is not None:
        blocks.append(figure)
    elif table is not None:
        blocks.append(table)
    else:
        blocks.append(_missing("separation"))
    return [*blocks, *_present(charts.along_figure(facts))]


def figures_of(sections: Sequence[Section]) -> list[Figure]:
    """All figures of the page, in order."""
    return [block for section in sections for block in section.blocks if isinstance(block, Figure)]


def _present(*blocks: Figure | Table | None) -> list[Block]:
    return [block for block in blocks if block is not None]


def _missing(table: str) -> Note:
    from refusal_lens.report.inputs import TABLES

    return Note(f"Not in this run: {TABLES[table]} (tables/{table}.parquet is absent or empty).", "missing")


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
