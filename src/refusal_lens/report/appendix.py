"""The frame of the page: what was asked, the vocabulary of refusal, what was left out, the limits, and where it all came from."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import PurePath

from pydantic import TypeAdapter, ValidationError

from refusal_lens.config import InterventionConfig
from refusal_lens.core.interventions import DECLARED
from refusal_lens.core.names import is_null
from refusal_lens.core.tables import FILTERING, MISSING, REFUSAL_TOKENS, UNSCORED, RefusalTokenRow
from refusal_lens.report.facts import Facts, as_map, language_name, source_name, words
from refusal_lens.report.inputs import TABLES
from refusal_lens.report.sections import missing
from refusal_lens.report.shares import percent
from refusal_lens.report.text import listing, shorten, visible_token
from refusal_lens.report.views import Block, Cell, Note, Pairs, Section, TableOf
from refusal_lens.types import JsonValue

LIMITS = (
    (
        "A rate is about the prompts that were asked, the judge that read the answers, and greedy decoding; another"
        " judge, sampling or longer answers can give other rates."
    ),
    (
        "Two runs of the same published baseline differed by up to 2.6 percentage points per cell: no claim finer"
        " than that is honest, whatever the interval."
    ),
    (
        "The intervals cover sampling of prompts only; errors of the judge and of translated prompts come on top, and"
        ' are larger in low-resource languages. "With the judge\'s error" gives the rate and the interval with the first'
        " of these in it, where it was measured."
    ),
    (
        "An answer that does not refuse is not yet a compliant answer: read the on-topic shares before saying that a"
        " model complied."
    ),
    (
        "High cosines between languages also occur in models that refuse nothing. Evidence for a shared direction is"
        " the transfer matrix beside its nulls."
    ),
    "Testbed models are built to have a known answer. They test this tool and say nothing about other models.",
)
UNKNOWN = "not recorded"


def frame_sections(facts: Facts) -> list[Section]:
    """Everything after the results: the question as configured, and what a careful reader checks last."""
    return [
        Section("asked", "What was asked", [Pairs(_asked(facts))]),
        Section("tokens", "How this model begins a refusal", _tokens(facts)),
        Section("dropped", "What was left out", _dropped(facts)),
        Section("limits", "Limits", [Note(text) for text in LIMITS]),
        Section("provenance", "Provenance", _provenance(facts)),
    ]


def _asked(facts: Facts) -> list[tuple[str, str]]:
    languages = [language_name(code) for code in facts.languages]
    revision = facts.setting("model", "revision")
    root, limit = facts.setting("data", "root"), facts.setting("data", "limit")
    sets = f"; further sets {listing(list(facts.extra_sets))}" if facts.extra_sets else ""

    def set_to(section: str, name: str) -> str:
        return _plain(facts.setting(section, name))

    items = [
        ("model", f"{facts.model}{f' at revision {revision}' if revision else ''}, dtype {set_to('model', 'dtype')}"),
        (
            "prompts",
            f"{PurePath(_plain(root)).name if root else 'the testbed’s own'},"
            f" {f'at most {limit} per language and class' if limit else 'all'}{sets}",
        ),
        ("languages", f"{len(languages)}: {listing(languages)}" if languages else "none recorded"),
        ("directions from", _sources(facts)),
        (
            "selection",
            f"rule {set_to('directions', 'rule')}, {set_to('directions', 'n_train')} train and"
            f" {set_to('directions', 'n_val')} validation prompts per class",
        ),
        ("null", f"random directions of equal norm: {set_to('directions', 'random')}"),
        ("intervention", _interventions(facts)),
        ("answers", f"greedy, at most {set_to('generation', 'max_new_tokens')} tokens; judge {facts.judge or UNKNOWN}"),
        ("seed", _plain(facts.config.get("seed"))),
        ("command", _plain(facts.inputs.header.get("command"))),
    ]
    return [(name, value) for name, value in items if UNKNOWN not in value or name in ("model", "seed")]


def _sources(facts: Facts) -> str:
    if len(facts.sources) > 1 and set(facts.sources) == set(facts.languages):
        return f"all {len(facts.sources)} languages"
    return listing([source_name(source) for source in facts.ordered(facts.sources)]) or "none recorded"


def _interventions(facts: Facts) -> str:
    """Each intervention with what was set; one that is not registered here, by its name alone."""
    settings = as_map(facts.config.get("interventions"))
    try:
        chosen = InterventionConfig.model_validate(settings).chosen
    except ValidationError:
        return "; ".join(words(settings.get("names"))) or UNKNOWN
    said = {
        name: TypeAdapter(DECLARED[name].options).validate_python(set_to).words() for name, set_to in chosen.items()
    }
    return "; ".join(f"{name} {how}".strip() for name, how in said.items()) or "none"


def _tokens(facts: Facts) -> list[Block]:
    by_language: dict[str, list[RefusalTokenRow]] = defaultdict(list)
    for row in sorted(facts.inputs.rows(REFUSAL_TOKENS), key=lambda row: -row["share"]):
        by_language[row["language"]].append(row)
    table = (
        TableOf(facts.ordered(by_language))
        .words("language", language_name)
        .words("tokens", lambda code: _token_cell(by_language[code]))
        .cells("refusals covered", lambda code: _coverage_cell(by_language[code][0]["coverage"]))
        .made("Refusal tokens, with the share of refusals that begin with each")
    )
    if table is None:
        return [missing("refusal_tokens")]
    return [
        Note(
            "First answer tokens by which this model refuses, discovered from its own answers. The refusal score is the"
            " log-odds of their total probability, so low coverage makes it a weak ruler in that language."
        ),
        table,
    ]


def _token_cell(rows: list[RefusalTokenRow]) -> Cell:
    shown = [
        f"{shorten(visible_token(row['token']), limit=24)} ({percent(row['share'])})" for row in rows if row["token"]
    ]
    return Cell("  ".join(shown) or "none found", tone="" if shown else "warn")


def _coverage_cell(coverage: float | None) -> Cell:
    return Cell(percent(coverage), at=coverage, tone="untouched", value=coverage)


def _dropped(facts: Facts) -> list[Block]:
    table = (
        TableOf(facts.inputs.rows(MISSING))
        .words("language", lambda row: language_name(row["language"]))
        .words("split", lambda row: row["split"])
        .words("prompts", lambda row: row["harm"])
        .words("why", lambda row: row["why"])
        .made("Cells the prompt set does not have")
    )
    blocks: list[Block] = [] if table is None else [table]
    if table is None and MISSING.name in facts.inputs.tables:
        blocks.append(Note("No cell of the prompt set was missing."))
    blocks += [_filtering(facts), _unscored(facts)]
    gone = [name for name in facts.inputs.absent if name != MISSING.name]
    if gone:
        absent = listing([TABLES[name] for name in gone])
        advice = "It may be unfinished; refusal-lens resume goes on where it stopped."
        blocks.append(Note(f"This run does not have: {absent}. {advice}", "missing"))
    return [*blocks, *(Note(problem, "caution") for problem in facts.inputs.problems)]


def _filtering(facts: Facts) -> Block:
    table = (
        TableOf(facts.inputs.rows(FILTERING))
        .words("language", lambda row: language_name(row["language"]))
        .words("prompts", lambda row: f"{row['harm']}, {row['split']}")
        .counts("sampled", lambda row: row["asked"])
        .counts("kept", lambda row: row["kept"])
        .counts("dropped", lambda row: row["dropped"])
        .cells("share dropped", lambda row: _coverage_cell(row["dropped"] / row["asked"] if row["asked"] else None))
        .made(
            "Prompts that the model itself contradicted (harmful ones it did not refuse, harmless ones it did) and that"
            " were dropped before extraction; without refusal tokens nobody can tell, and all are kept"
        )
    )
    return table or missing("filtering")


def _unscored(facts: Facts) -> Block:
    if UNSCORED.name not in facts.inputs.tables:
        return missing("unscored")
    counted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in facts.inputs.rows(UNSCORED):
        further = f", on {row['prompt_set']}" if row["prompt_set"] in facts.extra_sets else ""
        condition = f"{row['intervention']}{', random' if is_null(row['source']) else ''}{further}"
        counted[condition, row["reason"] or "no reason"][language_name(row["language"])] += row["n"]
    table = (
        TableOf(sorted(counted, key=lambda key: (key[0], -counted[key].total())))
        .words("condition", lambda key: key[0])
        .words("reason", lambda key: key[1])
        .counts("answers", lambda key: counted[key].total())
        .words("most in", lambda key: ", ".join(f"{name} {count}" for name, count in counted[key].most_common(4)))
        .made("Answers that could not be judged: in no rate, counted here")
    )
    return table or Note("Every answer could be judged.")


def _provenance(facts: Facts) -> list[Block]:
    header = facts.inputs.header
    versions = [(name, _plain(value)) for name, value in as_map(header.get("versions")).items()]
    checks = as_map(header.get("checks"))
    versions += [(f"check of the model: {name.replace('_', ' ')}", _plain(value)) for name, value in checks.items()]
    digests = [("model", _plain(header.get("model_digest")))]
    digests += [(f"prompts {name}", _plain(value)) for name, value in as_map(header.get("data_digests")).items()]
    settings = [
        (section, name, _plain(value))
        for section, fields in facts.config.items()
        for name, value in (as_map(fields).items() if isinstance(fields, dict) else [("", fields)])
    ]
    configured = (
        TableOf(settings)
        .words("section", lambda row: row[0])
        .words("setting", lambda row: row[1])
        .words("value", lambda row: row[2])
        .made("The whole configuration", folded=True)
    )
    lists = [
        Pairs([("machine", _plain(header.get("machine"))), *versions]),
        Pairs([pair for pair in digests if pair[1] != UNKNOWN], folded="Digests of model and prompts"),
    ]
    return [*(pairs for pairs in lists if pairs.items), *([configured] if configured else [])]


def _plain(value: JsonValue) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, list):
        return ", ".join(words(value)) if all(isinstance(item, str) for item in value) else str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
