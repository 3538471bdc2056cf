"""Completion texts, only for a report that was asked to reveal them: a few prompts per language, answers side by side.

Reads `data/completions` through the task records. All text is untrusted: it passes `clean`, is cut in length, and the
template escapes it. Damaged or scrubbed shards are left out and counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.core.names import BASELINE
from refusal_lens.core.tables import VERDICTS
from refusal_lens.errors import DataError, RunError
from refusal_lens.languages import get_language
from refusal_lens.report.facts import Facts, language_name
from refusal_lens.report.text import clean, shorten
from refusal_lens.rundir import RunDir
from refusal_lens.types import HARMS, JsonValue

PROMPTS_SHOWN = 4
LONGEST = 700
LONGEST_PROMPT = 400

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Shown:
    """One answer: under which condition (with its tone), how it was judged, its text."""

    condition: str
    tone: str
    label: str
    text: str


@dataclass(frozen=True)
class Entry:
    """One prompt with its answers."""

    harm: str
    prompt: str
    answers: tuple[Shown, ...]


@dataclass(frozen=True)
class RevealedLanguage:
    """Entries of one language; `direction` is `ltr` or `rtl`."""

    name: str
    code: str
    direction: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Revealed:
    """All revealed texts, and how many shards could not be read."""

    languages: tuple[RevealedLanguage, ...]
    unreadable: int


def reveal_texts(facts: Facts) -> Revealed:
    """Collect the first prompts of every language and class with their answers.

    Args:
        facts: The run's numbers; its main source is the one shown.

    Returns:
        Texts, cleaned and cut.
    """
    run = RunDir.open(facts.inputs.root)
    answers: dict[Key, dict[str, str]] = defaultdict(dict)
    prompts: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    unreadable = 0
    folder = run.folder("completions/any").parent
    for shard in sorted(folder.iterdir()) if folder.is_dir() else []:
        record = run.record(f"completions/{shard.name}")
        key = _key(None if record is None else record.params.get("cells"), facts)
        if record is None or key is None:
            unreadable += record is None
            continue
        _, source, language, harm = key
        try:
            rows = _read(run.path(record.task_id, "completions.parquet"))
            for task_id in (name for name in record.inputs if name.startswith("prompts/")):
                if not prompts[language, harm]:
                    asked = _read(run.path(task_id, "prompts.parquet"))
                    prompts[language, harm] |= {row["prompt_id"]: row["text"] for row in asked if row["harm"] == harm}
        except (RunError, OSError, KeyError, pa.ArrowException):
            unreadable += 1
            continue
        answers[key] |= {row["prompt_id"]: row["text"] for row in rows if row["source"] == source}
    labels = _labels(run, facts)
    languages = tuple(_language(facts, code, answers, prompts, labels) for code in facts.languages)
    return Revealed(tuple(language for language in languages if language.entries), unreadable)


def _language(
    facts: Facts,
    code: str,
    answers: Mapping[Key, dict[str, str]],
    prompts: Mapping[tuple[str, str], dict[str, str]],
    labels: Mapping[tuple[Key, str], str],
) -> RevealedLanguage:
    entries: list[Entry] = []
    conditions = _conditions(facts)
    for harm in HARMS:
        keys: list[Key] = [
            (kind, "" if kind == BASELINE else facts.main_source or "", code, harm) for kind in conditions
        ]
        ids = list(dict.fromkeys(name for key in keys for name in answers.get(key, {})))[:PROMPTS_SHOWN]
        for name in ids:
            shown = tuple(
                Shown(
                    *conditions[key[0]],
                    labels.get((key, name), "not judged"),
                    shorten(clean(answers[key][name]), limit=LONGEST) or "(empty)",
                )
                for key in keys
                if name in answers.get(key, {})
            )
            entries.append(
                Entry(harm, shorten(clean(prompts.get((code, harm), {}).get(name, name)), limit=LONGEST_PROMPT), shown)
            )
    known = language_name(code) != code
    return RevealedLanguage(
        language_name(code), code, get_language(code).direction if known else "auto", tuple(entries)
    )


def _conditions(facts: Facts) -> dict[str, tuple[str, str]]:
    """What was done, in words and as a tone, by intervention; the untouched model first."""
    return {BASELINE: ("untouched", "untouched"), **{item.name: (item.done, item.tone) for item in facts.interventions}}


def _key(cells: JsonValue, facts: Facts) -> Key | None:
    """The cell of a shard that is to be shown, if any: main prompt set, baseline or the main source."""
    if not isinstance(cells, list) or len(cells) < 4 or any(cells[4:]):
        return None
    intervention, language, harm = (str(cells[place] or "") for place in (0, 2, 3))
    sources = cells[1] if isinstance(cells[1], list) else []
    source = next((name for name in sources if name in ("", facts.main_source)), None)
    if intervention not in _conditions(facts) or source is None:
        return None
    return intervention, str(source), language, harm


def _labels(run: RunDir, facts: Facts) -> dict[tuple[Key, str], str]:
    try:
        rows = VERDICTS.read(run.tables_dir / "verdicts.parquet")
    except DataError:
        return {}
    return {
        ((row["intervention"], row["source"], row["language"], row["prompts"]), row["prompt_id"]): row["label"]
        for row in rows
        if row["prompt_set"] not in facts.extra_sets
    }


def _read(path: Path) -> list[dict[str, str]]:
    """Rows of a task's own table, every cell as text."""
    return [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in pq.read_table(path).to_pylist()
    ]
