"""The tables of the results part: headline, further prompt sets, verdict by language, damage, selection."""

from __future__ import annotations

from collections.abc import Mapping

from refusal_lens.core.names import is_null
from refusal_lens.report.facts import Facts, as_map, language_name, nearest, source_name
from refusal_lens.report.inputs import Row, count_of, real_of, text_of
from refusal_lens.report.shares import mean, number, percent, points, signed
from refusal_lens.report.views import Cell, Column, Table, null_cell, share_cell
from refusal_lens.types import JsonValue


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
    caption = (
        f"Every cell: the share, the counts k/n with a 95 % Wilson interval, and what could not be judged.{source}"
    )
    return Table(caption, columns, rows, wide=True)


def extra_set(facts: Facts, name: str) -> Table | None:
    """Rates on a further prompt set, nulls left out."""
    rows = [
        row
        for row in facts.inputs.rows("rates")
        if text_of(row, "prompt_set") == name and not is_null(text_of(row, "source"))
    ]
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
    return Table(
        f"Further prompt set: {name}",
        [
            Column("language"),
            Column("prompts"),
            Column("condition"),
            *(Column(x, numeric=True) for x in ("answered", "k/n", "95 %", "unscored")),
        ],
        lines,
    )


def verdict_table(facts: Facts, verdict: Mapping[str, JsonValue]) -> Table | None:
    """What decided, language by language."""
    lines: list[list[Cell]] = []
    for code, item in sorted(as_map(verdict.get("languages")).items(), key=lambda pair: facts.rank(pair[0])):
        fields = as_map(item)
        status = str(fields.get("status") or fields.get("verdict") or (item if isinstance(item, str) else "–"))
        numbers = [fields.get(name) for name in ("baseline_compliance", "removed", "null", "ceiling", "on_topic")]
        shown = [percent(float(value)) if isinstance(value, (int, float)) else "–" for value in numbers]
        served = f"{fields.get('served_by')} of {fields['foreign']}" if fields.get("foreign") else "–"
        lines.append(
            [
                Cell(language_name(code)),
                Cell(status),
                *(Cell(text) for text in (shown[0], served, *shown[1:])),
                Cell(str(fields.get("reason") or "")),
            ]
        )
    if not lines:
        return None
    head = (
        "answered untouched",
        "served by",
        "refusals removed",
        "largest null",
        "own direction removes",
        "on topic",
    )
    columns = [Column("language"), Column("status"), *(Column(label, numeric=True) for label in head), Column("why")]
    told = [index for index in range(len(columns)) if any(line[index].text not in ("–", "") for line in lines)]
    return Table(
        "What decided, by language: foreign directions against the language's own refusals (medians)",
        [columns[index] for index in told],
        [[line[index] for index in told] for line in lines],
        wide=True,
    )


def damage_table(facts: Facts) -> Table | None:
    """KL and cross-entropy on harmless prompts, beside the random directions."""
    conditions = {
        "ablated": ("ablation", facts.main_source),
        "random ablated": ("ablation", None),
        "added": ("addition", facts.main_source),
    }
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
    return Table(
        "Damage on harmless prompts, in nats per token: how far the next-token distribution moves, and how much worse"
        " the model predicts the text; random: mean over the random directions",
        columns,
        lines,
    )


def _mean_of(rows: list[Row], column: str) -> float | None:
    return mean([value for row in rows if (value := real_of(row, column)) is not None])


def _increase(rows: list[Row]) -> float | None:
    before, after = _mean_of(rows, "cross_entropy_before"), _mean_of(rows, "cross_entropy_after")
    return None if before is None or after is None else after - before


def selection_table(facts: Facts) -> Table | None:
    """The choice of every source."""
    lines = [
        [
            Cell(source_name(source)),
            Cell(text_of(row, "status")),
            *(Cell(_whole(row, name)) for name in ("position", "layer")),
            *(
                Cell(number(real_of(row, name), digits=digits))
                for name, digits in (("refusal_score", 2), ("steering_score", 2), ("kl_div_score", 4))
            ),
        ]
        for source, row in sorted(facts.selection.items(), key=lambda item: facts.rank(item[0]))
    ]
    if not lines:
        return None
    head = ("position", "layer", "score ablated", "score added", "KL")
    rules = sorted({text_of(row, "rule") for row in facts.selection.values()} - {""})
    return Table(
        f"Selection{f' by rule {rules[0]}' if len(rules) == 1 else ''}: scores are log-odds of refusal; below 0 the"
        " model no longer refuses, above 0 it does",
        [Column("direction from"), Column("status"), *(Column(label, numeric=True) for label in head)],
        lines,
    )


def selectivity_table(facts: Facts) -> Table | None:
    """Refusal of harmful less refusal of harmless prompts, untouched and with the main source's direction."""
    conditions = {
        "untouched": ("baseline", ""),
        "ablated": ("ablation", facts.main_source),
        "added": ("addition", facts.main_source),
    }
    found: dict[tuple[str, str], Row] = {}
    for row in facts.main_rows("selectivity"):
        key = (text_of(row, "intervention"), text_of(row, "source"))
        label = next((label for label, wanted in conditions.items() if wanted == key), None)
        if label is not None:
            found[text_of(row, "language"), label] = row
    present = [label for label in conditions if any(key[1] == label for key in found)]
    lines: list[list[Cell]] = []
    for code in facts.languages:
        line = [Cell(language_name(code))]
        for label in present:
            row = found.get((code, label), {})
            ends = (real_of(row, "low"), real_of(row, "high"))
            note = "" if None in ends else f"[{_unsigned(ends[0])}, {_unsigned(ends[1])}]"
            line.append(Cell(_unsigned(real_of(row, "selectivity")), note=note, tone=label))
        lines.append(line)
    if not present:
        return None
    return Table(
        "Selectivity: share of harmful prompts refused less share of harmless prompts refused, in points with a 95 %"
        " interval; 100 is perfect, 0 makes no difference between them",
        [Column("language"), *(Column(label, numeric=True) for label in present)],
        lines,
    )


def _unsigned(value: float | None) -> str:
    return points(value).removeprefix("+")


def sharing_table(facts: Facts) -> Table | None:
    """At the selected layer: what each language's direction shares, and harmfulness against refusal."""
    layers = sorted({count_of(row, "layer") for row in facts.inputs.rows("sharing") if row.get("masked") is not True})
    if not layers:
        return None
    layer = nearest(layers, facts.selected_layer)
    shared, two = (
        {text_of(row, "language"): row for row in facts.inputs.rows(table) if count_of(row, "layer") == layer}
        for table in ("sharing", "two_directions")
    )
    rank = next((value for row in shared.values() if (value := real_of(row, "effective_rank")) is not None), None)
    lines: list[list[Cell]] = []
    for code in sorted(shared, key=facts.rank):
        own, other = shared[code], two.get(code, {})
        lines.append(
            [
                Cell(language_name(code)),
                *(Cell(percent(real_of(own, name))) for name in ("shared", "private")),
                Cell(number(real_of(own, "reliability"))),
                *(Cell(number(real_of(other, name))) for name in ("cosine", "auc_harmfulness", "auc_refusal")),
            ]
        )
    columns = [
        Column("language"),
        *(Column(label, "the language's direction", numeric=True) for label in ("shared", "private", "reliability")),
        *(
            Column(label, "harmfulness (instruction's end) and refusal (template's end)", numeric=True)
            for label in ("cosine", "AUC harmfulness", "AUC refusal")
        ),
    ]
    ranked = (
        "" if rank is None else f" Effective rank of the {len(lines)} directions: {number(rank)} (1: all parallel)."
    )
    return Table(
        f"Layer {layer}: how much of each direction lies along the other languages' mean, its split-half reliability,"
        f" and whether harmfulness and refusal are two directions.{ranked}",
        columns,
        lines,
    )


def _whole(row: Row, column: str) -> str:
    value = real_of(row, column)
    return "–" if value is None else f"{value:.0f}".replace("-", "−")
