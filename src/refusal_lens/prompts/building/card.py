"""The card of a built data set: README.md, whose head Hugging Face `datasets` reads and whose body people read.

Every language is a configuration with its own splits. Codes are quoted in the head: YAML reads a bare `no` as false.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.prompts.building.croissant import write_croissant
from refusal_lens.prompts.checking.quality import BackTranslation, Quality, score_pairs, usable
from refusal_lens.prompts.loading.built import SPLIT_FILES, StandardRow
from refusal_lens.prompts.loading.cell import ENGLISH
from refusal_lens.prompts.loading.published import Source, published
from refusal_lens.types import SPLITS

_RESAMPLES = 200


def write_card(out: Path, rows: Sequence[StandardRow], record: Mapping[str, object]) -> None:
    """Write the card, and the Croissant description of the files as they lie there."""
    languages = list(dict.fromkeys(row.language for row in rows))
    body = [
        *_head(languages, rows),
        "# Prompts in several languages",
        "",
        f"{len(rows) // len(languages)} prompts, {len(languages)} languages, the same order of rows in each;",
        "`prompt_id` is shared by all translations. Built by `refusal-lens data build`.",
        "The harmful prompts ask for harmful things: they are for measuring and improving refusals, not for display.",
        "",
        "```python",
        "from datasets import load_dataset",
        f'load_dataset("path/to/this/folder", "{languages[-1]}", split="{_hf_split(rows[0].split)}")',
        "```",
        "",
        "## Languages and translation quality",
        "",
        *_table(languages, rows, record),
        "",
        "chrF and BLEU (sacrebleu) of the back-translation against the English original, 95 % bootstrap interval of chrF.",
        "`failed` rows have no text and say why in `note`; `corrected` rows carry a person's text.",
        "",
        "## Sources and licences",
        "",
        *_sources(record),
        "",
    ]
    write_atomic(out / "README.md", "\n".join(body).encode(), mode=PUBLIC_FILE)
    licence = record.get("licence")
    write_croissant(out, licence=str(licence) if licence else None)


def _head(languages: Sequence[str], rows: Sequence[StandardRow]) -> list[str]:
    codes = [f"- {json.dumps(code)}" for code in languages]
    lines = ["---", "language:", *codes, "license: other", "task_categories:", "- text-generation", "configs:"]
    for language in languages:
        lines += [f"- config_name: {json.dumps(language)}", "  data_files:"]
        present = {row.split for row in rows if row.language == language}
        for split in SPLITS:
            if split in present:
                lines += [
                    f"  - split: {_hf_split(split)}",
                    f"    path: {json.dumps(f'data/{language}/{SPLIT_FILES[split]}')}",
                ]
    return [*lines, "---", ""]


def _hf_split(split: str) -> str:
    return "validation" if split == "val" else split


def _table(languages: Sequence[str], rows: Sequence[StandardRow], record: Mapping[str, object]) -> list[str]:
    translators = record.get("translators")
    names = translators if isinstance(translators, dict) else {}
    lines = [
        "| language | translator | rows | failed | corrected | chrF | 95 % | BLEU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for language in languages:
        own = [row for row in rows if row.language == language]
        failed, corrected = (sum(row.status == status for row in own) for status in ("failed", "corrected"))
        name = "original" if language == ENGLISH else _plain(str(names.get(language, "unknown")))
        lines.append(f"| {language} | {name} | {len(own)} | {failed} | {corrected} | {_scores(quality_of(own))} |")
    return lines


def quality_of(rows: Sequence[StandardRow]) -> Quality | None:
    """Quality of one language's rows, None where nothing was translated back."""
    pairs = [
        BackTranslation(row.prompt_id, row.english, usable(row.back_translation))
        for row in rows
        if row.english is not None
    ]
    return score_pairs(pairs, resamples=_RESAMPLES) if any(pair.back is not None for pair in pairs) else None


def _scores(item: Quality | None) -> str:
    return "| |" if item is None else f"{item.chrf:.1f} | {item.low:.1f} to {item.high:.1f} | {item.bleu:.1f}"


def _sources(record: Mapping[str, object]) -> list[str]:
    lines = [
        f"Prompts read from: `{_plain(str(record.get('prompts')))}`; their list's SHA-256: `{record.get('prompts_sha256')}`."
    ]
    named = record.get("sources")
    if isinstance(named, list) and named:
        lines += ["", "| source | what | licence | where stated | citation |", "|---|---|---|---|---|"]
        lines += [_source(source) for source in published().sources if source.name in named]
    licence = record.get("licence")
    lines += [
        "",
        f"Licence of the prompts as stated by who built this: {_plain(str(licence)) if licence else 'not stated'}.",
    ]
    return lines


def _source(source: Source) -> str:
    return f"| {source.name} | {source.what} | {source.licence} | {source.stated} | {source.citation} |"


def _plain(text: str) -> str:
    """One line without Markdown or HTML marks."""
    return "".join(character for character in " ".join(text.split()) if character not in "|<>`*[]")[:300]
