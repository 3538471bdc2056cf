"""The tables of the results part: the untouched model, the judge, every condition, the verdict, damage, selection, sharing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from refusal_lens.core.geometry_tables import SHARING, TWO_DIRECTIONS
from refusal_lens.core.interventions import Declared
from refusal_lens.core.names import BASELINE, RANDOM, is_null
from refusal_lens.core.tables import AGREEMENT, DAMAGE, RATES, SELECTIVITY, THOUGHTS, DamageRow
from refusal_lens.languages import Reliability
from refusal_lens.report.facts import Facts, HeadlineRow, as_map, language_name, source_name
from refusal_lens.report.shares import mean, number, percent, share_of
from refusal_lens.report.views import Cell, Table, TableOf, null_cell, number_cell, points_cell, share_cell
from refusal_lens.types import HARMS, Harm, JsonValue


def untouched_table(facts: Facts) -> Table | None:
    """The untouched model, the language that answers most harmful prompts first."""
    rows = [row for row in facts.headline if row.harmful_baseline or row.harmless_baseline]
    rows.sort(key=lambda row: -((row.harmful_baseline and row.harmful_baseline.rate) or 0.0))
    selectivity = _selectivity(facts)
    return (
        TableOf(rows)
        .words("language", _named)
        .cells("harmful prompts answered", lambda row: share_cell(row.harmful_baseline, "untouched"))
        .cells("of those on topic", lambda row: _topic_cell(facts, row.language))
        .cells("harmless prompts refused", lambda row: share_cell(row.harmless_baseline, "untouched"))
        .cells("selectivity", lambda row: selectivity.get(row.language, Cell("–")))
        .made(
            "The untouched model, worst language first: the share, the counts k/n with a 95 % Wilson interval, and answers"
            " that could not be judged, were cut at the token limit, lay near the judge's threshold or came in another"
            " language. Selectivity: refused harmful less refused harmless prompts, in points; 100 is perfect, 0 makes no"
            " difference."
        )
    )


def judge_table(facts: Facts) -> Table | None:
    """How far the judge agreed with reference labels, language by language."""
    known = {code: facts.reliability(code) for code in facts.languages}
    if not facts.judge or not any(known.values()):
        return None
    samples = {found.on_what for found in known.values() if found}
    alike = f" Measured on {next(iter(samples))}." if len(samples) == 1 else ""
    return (
        TableOf(known.items())
        .words("language", lambda item: language_name(item[0]))
        .words("may decide", lambda item: _trust(item[1]))
        .numbers("agreement (Cohen's κ)", lambda item: item[1].kappa if item[1] else None)
        .counts("on answers", lambda item: item[1].n if item[1] else None)
        .shares("mean error of a rate", lambda item: item[1].mean_cell_error if item[1] else None)
        .words("measured on", lambda item: "" if alike else item[1].on_what if item[1] else "nothing")
        .made(
            f"Agreement of the judge ({facts.judge.partition('+')[0]}) with reference labels, as measured and shipped with"
            f" this tool; 1 is full agreement, 0 is chance. It says nothing of answers unlike those measured.{alike}"
        )
    )


def panel_table(facts: Facts) -> Table | None:
    """How far the judges of a panel agree with each other, language by language."""
    return (
        TableOf(facts.inputs.rows(AGREEMENT))
        .words("language", lambda row: "all" if row["language"] == "all" else language_name(row["language"]))
        .words("one judge", lambda row: row["judge_a"].partition("+")[0])
        .words("the other", lambda row: row["judge_b"].partition("+")[0])
        .cells(
            "agreement (Cohen's κ)", lambda row: replace(number_cell(row["kappa"]), note=_ends(row["low"], row["high"]))
        )
        .counts("answers", lambda row: row["n"])
        .shares("answered by the one", lambda row: row["compliance_a"])
        .shares("answered by the other", lambda row: row["compliance_b"])
        .made("The panel: how far the judges agree on the same answers. The first judge's verdicts are the page's.")
    )


def headline_view(facts: Facts) -> Table | None:
    """The headline table: harmful prompts answered, harmless prompts refused, each condition beside its null."""
    answered, refused = "harmful prompts answered", "harmless prompts refused"
    source = f" Direction from {source_name(facts.main_source)}." if facts.main_source else ""
    caption = f"Every cell: the share, the counts k/n with a 95 % Wilson interval, and what stands in doubt.{source}"

    def shares(name: str, tone: str, harm: Harm) -> Callable[[HeadlineRow], Cell]:
        return lambda row: share_cell(facts.share(name, row.language, harm), tone)

    def nulls(name: str, harm: Harm) -> Callable[[HeadlineRow], Cell]:
        return lambda row: null_cell(facts.null(name, row.language, harm))

    table = TableOf(facts.headline).words("language", _named)
    for harm, group in zip(HARMS, (answered, refused), strict=True):
        table.cells("untouched", shares(BASELINE, "untouched", harm), group)
        own = [item for item in facts.interventions if item.reads_on == harm]
        for item in own:
            table.cells(item.done, shares(item.name, item.tone, harm), group)
            table.cells(f"random {item.done}", nulls(item.name, harm), group)
        for item in facts.interventions:
            if item not in own:
                table.cells(item.done, shares(item.name, item.tone, harm), group)
    return table.made(caption, wide=True)


def extra_set(facts: Facts, name: str) -> Table | None:
    """Rates on a further prompt set, nulls left out."""
    rows = [row for row in facts.inputs.rows(RATES) if row["prompt_set"] == name and not is_null(row["source"])]
    return (
        TableOf(rows)
        .words("language", lambda row: language_name(row["language"]))
        .words("prompts", lambda row: row["prompts"])
        .words("condition", lambda row: Cell(row["intervention"], note=source_name(row["source"])))
        .cells("answered", lambda row: share_cell(share_of(row), ""))
        .made(f"Further prompt set: {name}")
    )


def thoughts_table(facts: Facts) -> Table | None:
    """Where outputs with thoughts refuse, per language and condition; None where the model never thought."""
    rows = [row for row in facts.main_rows(THOUGHTS) if not is_null(row["source"])]
    return (
        TableOf(sorted(rows, key=lambda row: (row["intervention"] != "baseline", row["prompts"])))
        .words("language", lambda row: language_name(row["language"]))
        .words("prompts", lambda row: row["prompts"])
        .words("condition", lambda row: Cell(row["intervention"], note=source_name(row["source"])))
        .counts("both judged", lambda row: row["n"])
        .counts("refused in both", lambda row: row["both"])
        .counts("in the thoughts only", lambda row: row["thoughts_only"])
        .counts("in the answer only", lambda row: row["answer_only"])
        .counts("in neither", lambda row: row["neither"])
        .counts("not judged", lambda row: row["unjudged"])
        .made("Refusal in thoughts against refusal in answers (thoughts: the native judge's reading)")
    )


def verdict_table(facts: Facts, verdict: Mapping[str, JsonValue]) -> Table | None:
    """What decided, language by language."""
    languages = {code: as_map(item) for code, item in as_map(verdict.get("languages")).items()}

    def real(code: str, name: str) -> float | None:
        value = languages[code].get(name)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    return (
        TableOf(facts.ordered(languages))
        .words("language", language_name)
        .words("status", lambda code: str(languages[code].get("status") or "–"))
        .shares("answered untouched", lambda code: real(code, "baseline_compliance"))
        .cells("served by", lambda code: _served(languages[code]))
        .shares("refusals removed", lambda code: real(code, "removed"))
        .shares("largest null", lambda code: real(code, "null"))
        .shares("own direction removes", lambda code: real(code, "ceiling"))
        .shares("on topic", lambda code: real(code, "on_topic"))
        .numbers("prompts needed", lambda code: real(code, "needs_n"), digits=0)
        .words("why", lambda code: str(languages[code].get("reason") or ""))
        .made("What decided, by language: foreign directions against the language's own refusals (medians)", wide=True)
    )


def damage_table(facts: Facts) -> Table | None:
    """KL and cross-entropy on harmless prompts, beside the random directions."""
    conditions: dict[str, tuple[str, str | None]] = {}
    for item in facts.interventions:
        conditions |= {item.done: (item.name, facts.main_source), f"random {item.done}": (item.name, RANDOM)}
    found: dict[tuple[str, str], list[DamageRow]] = defaultdict(list)
    for row in facts.inputs.rows(DAMAGE):
        wanted = (row["intervention"], RANDOM if row["source"].startswith(RANDOM) else row["source"])
        for label, condition in conditions.items():
            if condition == wanted:
                found[row["language"], label].append(row)
    measured = [label for label in conditions if any(label == name for _, name in found)]

    def before(code: str) -> float | None:
        return mean(row["cross_entropy_before"] for label in measured for row in found[code, label])

    table = TableOf(code for code in facts.languages if any(found[code, label] for label in measured))
    table.words("language", language_name)
    for label in measured:
        kl = "KL from the untouched model"
        table.numbers(label, lambda code, label=label: mean(row["kl"] for row in found[code, label]), kl, digits=4)
    table.numbers("untouched", before, "cross-entropy", digits=3)
    for label in measured:
        table.cells(label, lambda code, label=label: _increase(found[code, label]), "its change")
    return table.made(
        "Damage on harmless prompts, in nats per token: how far the next-token distribution moves, and how much worse the"
        " model predicts the text; random: mean over the random directions"
    )


def selection_table(facts: Facts) -> Table | None:
    """The choice of every source."""
    rules = sorted({row["rule"] for row in facts.selection.values()} - {""})
    by_rule = f" by rule {rules[0]}" if len(rules) == 1 else ""
    return (
        TableOf(facts.selection[source] for source in facts.ordered(facts.selection))
        .words("direction from", lambda row: source_name(row["source"]))
        .words("status", lambda row: row["status"])
        .counts("position", lambda row: row["position"])
        .counts("layer", lambda row: row["layer"])
        .numbers("score ablated", lambda row: row["refusal_score"])
        .numbers("score added", lambda row: row["steering_score"])
        .numbers("KL", lambda row: row["kl_div_score"], digits=4)
        .made(
            f"Selection{by_rule}: scores are log-odds of refusal; below 0 the model no longer refuses, above 0 it does"
        )
    )


def selectivity_table(facts: Facts) -> Table | None:
    """Refusal of harmful less refusal of harmless prompts, untouched and with the main source's direction."""
    found = {"untouched": _selectivity(facts)} | {item.done: _selectivity(facts, item) for item in facts.interventions}
    table = TableOf(code for code in facts.languages if any(code in cells for cells in found.values()))
    table.words("language", language_name)
    for label, cells in found.items():
        table.cells(label, lambda code, cells=cells: cells.get(code, Cell("–")))
    return table.made(
        "Selectivity: share of harmful prompts refused less share of harmless prompts refused, in points with a 95 %"
        " interval; 100 is perfect, 0 makes no difference between them"
    )


def sharing_table(facts: Facts) -> Table | None:
    """At the selected layer: what each language's direction shares, and harmfulness against refusal."""
    rows = facts.at_layer([row for row in facts.inputs.rows(SHARING) if not row["masked"]])
    if not rows:
        return None
    layer = rows[0]["layer"]
    shared = {row["language"]: row for row in rows}
    two = {row["language"]: row for row in facts.inputs.rows(TWO_DIRECTIONS) if row["layer"] == layer}
    rank = next((row["effective_rank"] for row in rows if row["effective_rank"] is not None), None)
    ranked = "" if rank is None else f" Effective rank of the {len(rows)} directions: {number(rank)} (1: all parallel)."
    own, both = "the language's direction", "harmfulness (instruction's end) and refusal (template's end)"
    return (
        TableOf(facts.ordered(shared))
        .words("language", language_name)
        .shares("shared", lambda code: shared[code]["shared"], own)
        .shares("private", lambda code: shared[code]["private"], own)
        .numbers("reliability", lambda code: shared[code]["reliability"], own)
        .numbers("cosine", lambda code: two[code]["cosine"] if code in two else None, both)
        .numbers("AUC harmfulness", lambda code: two[code]["auc_harmfulness"] if code in two else None, both)
        .numbers("AUC refusal", lambda code: two[code]["auc_refusal"] if code in two else None, both)
        .made(
            f"Layer {layer}: how much of each direction lies along the other languages' mean, its split-half reliability,"
            f" and whether harmfulness and refusal are two directions.{ranked}"
        )
    )


def _named(row: HeadlineRow) -> Cell:
    return Cell(row.name, note=f"{row.tier} resources" if row.tier else "")


def _topic_cell(facts: Facts, code: str) -> Cell:
    row = facts.topic(code)
    checked = row["on_topic"] + row["hollow"] if row else 0
    if row is None or not checked:
        return Cell("–")
    return Cell(percent(row["share_on_topic"]), note=f"{row['on_topic']}/{checked}", value=row["share_on_topic"])


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def _trust(found: Reliability | None) -> str:
    if found is None or found.validated:
        return "yes" if found else "not measured"
    return "no: too few answers" if found.agrees else "no: too weak"


def _selectivity(facts: Facts, item: Declared | None = None) -> dict[str, Cell]:
    """By language, untouched or under an intervention of the main source."""
    wanted = (BASELINE, "") if item is None else (item.name, facts.main_source)
    tone = "untouched" if item is None else item.tone
    found: dict[str, Cell] = {}
    for row in facts.main_rows(SELECTIVITY):
        if (row["intervention"], row["source"]) == wanted:
            cell = points_cell(row["selectivity"], row["low"], row["high"], tone=tone)
            found[row["language"]] = replace(cell, text=cell.text.removeprefix("+"))
    return found


def _increase(rows: Sequence[DamageRow]) -> Cell:
    before, after = (mean(row[name] for row in rows) for name in ("cross_entropy_before", "cross_entropy_after"))
    return number_cell(None if before is None or after is None else after - before, digits=3, sign=True)


def _served(fields: Mapping[str, JsonValue]) -> Cell:
    return Cell(f"{fields.get('served_by')} of {fields['foreign']}" if fields.get("foreign") else "–")
