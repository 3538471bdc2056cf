"""The results part of the page: which figures, tables and sentences stand where, and what is said when one is missing."""

from __future__ import annotations

from collections.abc import Sequence

from refusal_lens.report import charts
from refusal_lens.report.facts import Facts, as_map, language_name, source_name, words
from refusal_lens.report.inputs import Row, count_of, real_of, text_of
from refusal_lens.report.shares import mean, number, percent, signed
from refusal_lens.report.views import Block, Cell, Column, Figure, Note, Section, Table, null_cell, share_cell
from refusal_lens.report.words import best_discarded, candidate_words, leak_words


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


def headline_view(facts: Facts) -> Table:
    """The headline table: harmful prompts answered, harmless prompts refused, each condition beside its null."""
    answered, refused = "harmful prompts answered", "harmless prompts refused"
    columns = [
        Column("language"),
        *(Column(label, answered, numeric=True) for label in ("untouched", "ablated", "random ablated", "added")),
        *(Column(label, refused, numeric=True) for label in ("untouched", "added", "random added", "ablated")),
    ]
    rows: list[list[Cell]] = []
    for row in facts.headline:
        rows.append(
            [
                Cell(row.name, note=f"{row.language}{f' · {row.tier} resources' if row.tier else ''}"),
                share_cell(row.harmful_baseline, "untouched"),
                share_cell(row.harmful_ablated, "ablated"),
                null_cell(row.harmful_random),
                share_cell(row.harmful_added, "added"),
                share_cell(row.harmless_baseline, "untouched"),
                share_cell(row.harmless_added, "added"),
                null_cell(row.harmless_random),
                share_cell(row.harmless_ablated, "ablated"),
            ]
        )
    source = f" Direction from {source_name(facts.main_source)}." if facts.main_source else ""
    caption = f"Every cell: the share, the counts k/n with a 95 % Wilson interval, and what could not be judged.{source}"
    return Table(caption, columns, rows, wide=True)


def _languages(facts: Facts) -> list[Block]:
    if not facts.cells:
        return [_missing("rates")]
    blocks: list[Block] = [headline_view(facts)]
    if facts.main_source is None:
        blocks.append(Note("Only the untouched model was measured: without a valid direction there is nothing to ablate or add.", "missing"))
    blocks += _present(charts.harmful_figure(facts), charts.harmless_figure(facts))
    for name in facts.extra_sets:
        blocks += _present(_extra_set(facts, name))
    return blocks


def _extra_set(facts: Facts, name: str) -> Table | None:
    rows = [row for row in facts.inputs.rows("rates") if text_of(row, "prompt_set") == name and not text_of(row, "source").startswith(("random-", "shuffled"))]
    if not rows:
        return None
    lines = [
        [
            Cell(language_name(text_of(row, "language"))),
            Cell(text_of(row, "prompts")),
            Cell(text_of(row, "intervention"), note=source_name(text_of(row, "source"))),
            Cell(percent(real_of(row, "rate"))),
            Cell(f"{count_of(row, 'k')}/{count_of(row, 'n')}"),
            Cell(f"{percent(real_of(row, 'low'))} to {percent(real_of(row, 'high'))}"),
            Cell(str(count_of(row, "unscored"))),
        ]
        for row in rows
    ]
    return Table(f"Further prompt set: {name}", [Column("language"), Column("prompts"), Column("condition"), *(Column(x, numeric=True) for x in ("answered", "k/n", "95 %", "unscored"))], lines)


def _verdict(facts: Facts) -> list[Block]:
    verdict = as_map(facts.inputs.summaries.get("verdict"))
    if not verdict:
        return [Note("This run has no verdict (tables/verdict.json is absent): the rules need the transfer matrix of a finished run.", "missing")]
    blocks: list[Block] = [Note(_sentence(reason)) for reason in words(verdict.get("reasons"))]
    lines: list[list[Cell]] = []
    for code, item in as_map(verdict.get("languages")).items():
        fields = as_map(item)
        status = str(fields.get("status") or fields.get("verdict") or (item if isinstance(item, str) else "–"))
        numbers = [fields.get(name) for name in ("baseline_compliance", "removed", "null", "ceiling", "on_topic")]
        shown = [percent(float(value)) if isinstance(value, (int, float)) else "–" for value in numbers]
        served = f"{fields['served_by']} of {fields['foreign']}" if {"served_by", "foreign"} <= fields.keys() else "–"
        lines.append([Cell(language_name(code)), Cell(status), *(Cell(text) for text in (shown[0], served, *shown[1:])), Cell(str(fields.get("reason") or ""))])
    if lines:
        head = ("answered untouched", "served by", "refusals removed", "largest null", "own direction removes", "on topic")
        columns = [Column("language"), Column("status"), *(Column(label, numeric=True) for label in head), Column("why")]
        blocks.append(Table("What decided, by language: foreign directions against the language's own refusals (medians)", columns, lines, wide=True))
    return blocks


def _content(facts: Facts) -> list[Block]:
    if facts.main_source is None:
        return [Note("No direction was ablated in this run.", "missing")]
    blocks: list[Block] = []
    if facts.inputs.rows("content"):
        blocks += _present(charts.content_figure(facts))
    else:
        blocks.append(_missing("content"))
    blocks += _present(_damage(facts)) or [_missing("damage")]
    return blocks


def _damage(facts: Facts) -> Table | None:
    conditions = {"ablated": ("ablation", facts.main_source), "random ablated": ("ablation", None), "added": ("addition", facts.main_source)}
    found: dict[tuple[str, str], list[Row]] = {}
    for row in facts.inputs.rows("damage"):
        source = text_of(row, "source")
        key = (text_of(row, "intervention"), None if source.startswith("random-") else source)
        label = next((label for label, wanted in conditions.items() if key == wanted), None)
        if label is not None:
            found.setdefault((text_of(row, "language"), label), []).append(row)
    present = [label for label in conditions if any(key[1] == label for key in found)]
    if not present:
        return None
    lines: list[list[Cell]] = []
    for code in facts.languages:
        own = {label: found.get((code, label), []) for label in present}
        if not any(own.values()):
            continue
        first = next(rows for rows in own.values() if rows)
        lines.append(
            [
                Cell(language_name(code)),
                *(Cell(number(_mean_of(own[label], "kl"), digits=4)) for label in present),
                Cell(number(_mean_of(first, "cross_entropy_before"), digits=3)),
                *(Cell(signed(_increase(own[label]), digits=3)) for label in present),
            ]
        )
    columns = [
        Column("language"),
        *(Column(label, "KL from the untouched model", numeric=True) for label in present),
        Column("untouched", "cross-entropy", numeric=True),
        *(Column(label, "its change", numeric=True) for label in present),
    ]
    return Table("Damage on harmless prompts, in nats per token: how far the next-token distribution moves, and how much worse the model predicts the text; random: mean over the random directions", columns, lines)


def _mean_of(rows: list[Row], column: str) -> float | None:
    return mean([value for row in rows if (value := real_of(row, column)) is not None])


def _increase(rows: list[Row]) -> float | None:
    before, after = _mean_of(rows, "cross_entropy_before"), _mean_of(rows, "cross_entropy_after")
    return None if before is None or after is None else after - before


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
            blocks.append(Note(f"The best candidate it would have had: {candidate_words(best)}{f', dropped because: {why}' if why else ''}."))
    lines = [
        [
            Cell(source_name(source)),
            Cell(text_of(row, "status")),
            *(Cell(_whole(row, name)) for name in ("position", "layer")),
            *(Cell(number(real_of(row, name), digits=digits)) for name, digits in (("refusal_score", 2), ("steering_score", 2), ("kl_div_score", 4), ("norm", 2))),
        ]
        for source, row in facts.selection.items()
    ]
    if lines:
        head = ("position", "layer", "score ablated", "score added", "KL", "norm")
        rules = sorted({text_of(row, "rule") for row in facts.selection.values()} - {""})
        caption = f"Selection{f' by rule {rules[0]}' if len(rules) == 1 else ''}: scores are log-odds of refusal; below 0 the model no longer refuses, above 0 it does"
        blocks.append(Table(caption, [Column("direction from"), Column("status"), *(Column(label, numeric=True) for label in head)], lines))
    else:
        blocks.append(_missing("selection"))
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
            Note(f"Directions come from {source_name(facts.valid_sources[0])} alone; `--sources all` fills the matrix and says whether every language's direction serves the others.".replace("`", ""))
        )
    return [*blocks, *_present(charts.transfer_figure(facts, "ablation"), charts.transfer_figure(facts, "addition"))]


def _geometry(facts: Facts) -> list[Block]:
    blocks: list[Block] = []
    blocks += _present(charts.cosine_figure(facts), charts.layers_figure(facts)) or [_missing("cosines")]
    blocks += _present(charts.projection_figure(facts)) or [_missing("projection")]
    stability = as_map(as_map(facts.inputs.summaries.get("geometry")).get("stability"))
    said = [f"{name.replace('_', ' ')} {number(float(value))}" for name, value in stability.items() if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if said:
        blocks.append(Note(f"Stability under resampled prompts: {'; '.join(said)}."))
    return blocks


def _leaks(facts: Facts) -> list[Block]:
    blocks: list[Block] = []
    leak = as_map(as_map(facts.inputs.summaries.get("geometry")).get("leak"))
    written = next((value for name in ("words", "text", "paragraph") if isinstance(value := leak.get(name), str)), None) or leak_words(facts)
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


def _whole(row: Row, column: str) -> str:
    value = real_of(row, column)
    return "–" if value is None else f"{value:.0f}".replace("-", "−")
