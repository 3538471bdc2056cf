"""The frame of the page: what was asked, the vocabulary of refusal, what was left out, the limits, and where it all came from."""

from __future__ import annotations

from refusal_lens.languages import reliability
from refusal_lens.report.facts import Facts, as_map, language_name, source_name, words
from refusal_lens.report.inputs import TABLES, Row, count_of, real_of, text_of
from refusal_lens.report.shares import percent
from refusal_lens.report.text import listing, shorten, visible_token
from refusal_lens.report.views import Block, Cell, Column, Note, Pairs, Section, Table
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
        " are larger in low-resource languages."
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


def asked_section(facts: Facts) -> Section:
    """The question, as configured."""
    header = facts.inputs.header
    languages = [language_name(code) for code in facts.languages]
    root, limit = facts.setting("data", "root"), facts.setting("data", "limit")
    how_many = f"at most {limit} per language and class" if limit else "all"
    items = [
        ("model", _with_revision(facts)),
        (
            "prompts",
            f"{_plain(root) if root else 'the testbed’s own'}, {how_many}{_sets(facts)}",
        ),
        ("languages", f"{len(languages)}: {listing(languages)}" if languages else "none recorded"),
        ("directions from", listing([source_name(source) for source in facts.sources]) or "none recorded"),
        (
            "selection",
            (
                f"rule {_plain(facts.setting('directions', 'rule'))},"
                f" {_plain(facts.setting('directions', 'n_train'))} train and"
                f" {_plain(facts.setting('directions', 'n_val'))} validation prompts per class"
            ),
        ),
        ("null", f"{_plain(facts.setting('directions', 'random'))} random directions of equal norm"),
        ("intervention", _intervention(facts)),
        (
            "answers",
            (
                f"greedy, at most {_plain(facts.setting('generation', 'max_new_tokens'))} tokens; judge"
                f" {_plain(header.get('judge') or facts.config.get('judge'))}"
            ),
        ),
        ("judge's agreement with labels", _agreement(facts)),
        ("seed", _plain(facts.config.get("seed"))),
        ("command", _plain(header.get("command"))),
    ]
    return Section(
        "asked",
        "What was asked",
        [Pairs([(name, value) for name, value in items if "not recorded" not in value or name in ("model", "seed")])],
    )


def _agreement(facts: Facts) -> str:
    """How far the judge was found to agree with labels in each language, and where nothing may be decided by it."""
    judge = str(facts.inputs.header.get("judge") or facts.config.get("judge") or "")
    if not judge:
        return "not recorded"
    found = {code: reliability(judge, code) for code in facts.languages}
    measured = [f"{code} {known.kappa:.2f} (n = {known.n})" for code, known in found.items() if known is not None]
    said = f"kappa {listing(measured)}" if measured else ""
    never = [code for code, known in found.items() if known is None]
    weak = [code for code, known in found.items() if known is not None and not known.validated]
    parts = [
        said,
        f"never measured in {listing(never)}" if never else "",
        f"too weak to gate in {listing(weak)}" if weak else "",
    ]
    return "; ".join(part for part in parts if part) or "not recorded"


def tail_sections(facts: Facts) -> list[Section]:
    """Everything after the results."""
    return [
        Section("tokens", "How this model begins a refusal", _tokens(facts)),
        Section("dropped", "What was left out", _dropped(facts)),
        Section("limits", "Limits", [Note(text) for text in LIMITS]),
        Section("provenance", "Provenance", _provenance(facts)),
    ]


def _tokens(facts: Facts) -> list[Block]:
    rows = facts.inputs.rows("refusal_tokens")
    if not rows:
        return [_absent("refusal_tokens")]
    by_language: dict[str, list[Row]] = {}
    for row in rows:
        by_language.setdefault(text_of(row, "language"), []).append(row)
    lines: list[list[Cell]] = []
    for code in [
        *(code for code in facts.languages if code in by_language),
        *sorted(set(by_language) - set(facts.languages)),
    ]:
        own = sorted(by_language[code], key=lambda row: -(real_of(row, "share") or 0.0))
        shown = [
            f"{shorten(visible_token(text_of(row, 'token')), limit=24)} ({percent(real_of(row, 'share'))})"
            for row in own
            if text_of(row, "token")
        ]
        coverage = real_of(own[0], "coverage")
        lines.append(
            [
                Cell(language_name(code)),
                Cell("  ".join(shown) or "none found", tone="" if shown else "warn"),
                Cell(percent(coverage), at=coverage, tone="added"),
            ]
        )
    return [
        Note(
            "First answer tokens by which this model refuses, discovered from its own answers. The refusal score is"
            " the log-odds of their total probability, so low coverage makes it a weak ruler in that language."
        ),
        Table(
            "Refusal tokens, with the share of refusals that begin with each",
            [Column("language"), Column("tokens"), Column("refusals covered", numeric=True)],
            lines,
        ),
    ]


def _dropped(facts: Facts) -> list[Block]:
    blocks: list[Block] = []
    missing = facts.inputs.rows("missing")
    if missing:
        lines = [
            [
                Cell(language_name(text_of(row, "language"))),
                Cell(text_of(row, "split")),
                Cell(text_of(row, "harm")),
                Cell(text_of(row, "why")),
            ]
            for row in missing
        ]
        blocks.append(
            Table(
                "Cells the prompt set does not have",
                [Column("language"), Column("split"), Column("prompts"), Column("why")],
                lines,
            )
        )
    elif "missing" in facts.inputs.tables:
        blocks.append(Note("No cell of the prompt set was missing."))
    blocks += [_filtering(facts), _unscored(facts)]
    gone = [name for name in facts.inputs.absent if name not in {"missing"}]
    if gone:
        blocks.append(
            Note(
                f"This run does not have: {listing([TABLES[name] for name in gone])}. It may be unfinished;"
                " refusal-lens resume goes on where it stopped.",
                "missing",
            )
        )
    blocks += [Note(problem, "caution") for problem in facts.inputs.problems]
    return blocks


def _filtering(facts: Facts) -> Block:
    rows = facts.inputs.rows("filtering")
    if not rows:
        return _absent("filtering")
    lines: list[list[Cell]] = []
    for row in rows:
        asked, dropped = count_of(row, "asked"), count_of(row, "dropped")
        share = dropped / asked if asked else None
        lines.append(
            [
                Cell(language_name(text_of(row, "language"))),
                Cell(f"{text_of(row, 'harm')}, {text_of(row, 'split')}"),
                *(Cell(str(count_of(row, name))) for name in ("asked", "kept", "dropped")),
                Cell(percent(share), at=share, tone="untouched"),
            ]
        )
    head = ("sampled", "kept", "dropped", "share dropped")
    return Table(
        "Prompts that the model itself contradicted (harmful ones it did not refuse, harmless ones it did) and that"
        " were dropped before extraction",
        [Column("language"), Column("prompts"), *(Column(label, numeric=True) for label in head)],
        lines,
    )


def _unscored(facts: Facts) -> Block:
    if "unscored" not in facts.inputs.tables:
        return _absent("unscored")
    counted: dict[tuple[str, str], int] = {}
    by_language: dict[tuple[str, str], dict[str, int]] = {}
    for row in facts.inputs.rows("unscored"):
        name = text_of(row, "prompt_set")
        condition = (
            f"{text_of(row, 'intervention')}{', random' if text_of(row, 'source').startswith('random-') else ''}"
            f"{f', on {name}' if name in facts.extra_sets else ''}"
        )
        key = (condition, text_of(row, "reason"))
        counted[key] = counted.get(key, 0) + count_of(row, "n")
        names = by_language.setdefault(key, {})
        name = language_name(text_of(row, "language"))
        names[name] = names.get(name, 0) + count_of(row, "n")
    if not counted:
        return Note("Every answer could be judged.")
    lines: list[list[Cell]] = []
    for (condition, reason), n in sorted(counted.items(), key=lambda item: (item[0][0], -item[1])):
        most = sorted(by_language[condition, reason].items(), key=lambda item: -item[1])[:4]
        lines.append(
            [Cell(condition), Cell(reason), Cell(str(n)), Cell(", ".join(f"{name} {count}" for name, count in most))]
        )
    return Table(
        "Answers that could not be judged: in no rate, counted here",
        [Column("condition"), Column("reason"), Column("answers", numeric=True), Column("most in")],
        lines,
    )


def _provenance(facts: Facts) -> list[Block]:
    header = facts.inputs.header
    pairs: list[tuple[str, str]] = [
        ("model digest", _plain(header.get("model_digest"))),
        ("machine", _plain(header.get("machine"))),
    ]
    pairs += [
        (f"check of the model: {name.replace('_', ' ')}", _plain(value))
        for name, value in as_map(header.get("checks")).items()
    ]
    pairs += [(name, _plain(value)) for name, value in as_map(header.get("versions")).items()]
    pairs += [(f"prompts {name}", _plain(value)) for name, value in as_map(header.get("data_digests")).items()]
    settings = [
        [Cell(section), Cell(name), Cell(_plain(value))]
        for section, fields in facts.config.items()
        for name, value in (as_map(fields).items() if isinstance(fields, dict) else [("", fields)])
    ]
    blocks: list[Block] = [Pairs([(name, value) for name, value in pairs if value != "not recorded"])]
    if settings:
        blocks.append(
            Table("The whole configuration", [Column("section"), Column("setting"), Column("value")], settings)
        )
    return blocks


def _with_revision(facts: Facts) -> str:
    revision = facts.setting("model", "revision")
    return (
        f"{facts.model}{f' at revision {revision}' if revision else ''}, dtype"
        f" {_plain(facts.setting('model', 'dtype'))}"
    )


def _intervention(facts: Facts) -> str:
    kind = "ablation to the harmless mean (affine)" if facts.setting("interventions", "affine") else "ablation to zero"
    variant = facts.setting("interventions", "variant")
    return (
        f"{kind}{f', {variant}' if variant else ''}; addition with coefficient"
        f" {_plain(facts.setting('interventions', 'coefficient'))}"
    )


def _sets(facts: Facts) -> str:
    return f"; further sets {listing(list(facts.extra_sets))}" if facts.extra_sets else ""


def _plain(value: JsonValue) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, list):
        return ", ".join(words(value)) if all(isinstance(item, str) for item in value) else str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _absent(table: str) -> Note:
    return Note(f"Not in this run: {TABLES[table]} (tables/{table}.parquet is absent or empty).", "missing")
