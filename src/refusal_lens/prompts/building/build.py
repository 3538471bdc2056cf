"""`data build`: translate prompts into more languages, with ids and order kept, and write a data set with its card.

Steps: distinct English texts are translated and back-translated through the journal (copies get one translation);
rows are put together in the order of the prompts, for every language the folder has a journal of; human corrections
that the folder already holds are applied again; Parquet files, card, provenance and, for languages RefusalLens does not
know, a language file from the template are written. Failed rows stay in their place, marked, with the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.errors import DataError, MissingCell
from refusal_lens.languages import load_languages
from refusal_lens.languages.template import language_file
from refusal_lens.prompts.building.card import write_card
from refusal_lens.prompts.building.corrections import apply_recorded
from refusal_lens.prompts.building.translating import Translated, TranslatorLike, read_journal, translate_all
from refusal_lens.prompts.loading.built import StandardRow, write_standard
from refusal_lens.prompts.loading.cell import ENGLISH, check_language
from refusal_lens.prompts.loading.own_file import load_file
from refusal_lens.prompts.loading.own_table import PromptTable
from refusal_lens.prompts.loading.published import published
from refusal_lens.prompts.loading.sets import load_prompts, prompt_sets
from refusal_lens.prompts.loading.texts import parse_json, read_text
from refusal_lens.types import HARMS, SPLITS, Harm, Prompt, Split

JOURNALS = ".build"
RECORD = "build.json"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build wrote.

    Attributes:
        out: The data set's folder.
        languages: Its languages, English included.
        rows: Rows per language; of the fullest where they differ.
        failed: Language -> rows marked failed.
        corrected: Rows that carry a human's text.
        language_files: Language files written from the template.
    """

    out: Path
    languages: tuple[str, ...]
    rows: int
    failed: dict[str, int]
    corrected: int
    language_files: tuple[Path, ...]


def gather(
    source: str | os.PathLike[str],
    *,
    harm: Harm | None = None,
    split: Split | None = None,
    column: str | None = None,
) -> list[Prompt]:
    """English prompts to translate.

    Args:
        source: A file of one's own, or a folder with PolyRefuse and further sets.
        harm: Class of the file's prompts (default harmful); for a folder, which class to take (default both).
        split: Split of the file's prompts (default test); for a folder, which split to take (default all).
        column: The file's column that holds the texts, where it has another name than usual.

    Returns:
        Prompts in a fixed order.

    Raises:
        DataError: When there is none.
    """
    path = Path(source)
    if not path.is_dir():
        return load_file(path, language=ENGLISH, harm=harm or "harmful", split=split or "test", column=column)
    found: list[Prompt] = []
    for prompt_set in prompt_sets(path):
        for one_split in SPLITS if split is None else (split,):
            for one_harm in HARMS if harm is None else (harm,):
                try:
                    found.extend(
                        load_prompts(path, language=ENGLISH, split=one_split, harm=one_harm, prompt_set=prompt_set.name)
                    )
                except MissingCell:
                    continue
    if not found:
        raise DataError(f"{path}: no English prompts of this class and split in it")
    return found


def build(
    prompts: Sequence[Prompt],
    *,
    languages: Sequence[str],
    translator: TranslatorLike,
    translator_name: str,
    origin: str,
    out: Path,
    licence: str | None = None,
    batch_size: int = 16,
    progress: Callable[[str, int], None] | None = None,
) -> Built:
    """Translate prompts and write the data set.

    Args:
        prompts: English prompts.
        languages: Target languages, any BCP-47 codes but English.
        translator: Translates both ways.
        translator_name: Its name and version, as recorded.
        origin: Where the prompts come from, as recorded.
        out: Folder of the data set; a build there goes on, and gains languages.
        licence: Licence of the user's own prompts, for the card.
        batch_size: Texts per call of the translator.
        progress: Called with a language and the number of texts done.

    Returns:
        What was written.

    Raises:
        DataError: When the folder holds another data set, or something cannot be read or written.
    """
    for language in languages:
        check_language(language)
        if language == ENGLISH:
            raise DataError("English is the source; name other languages in --languages")
    if not prompts:
        raise DataError("no prompts to translate")
    if len(languages) != len(set(languages)):
        raise DataError("a language is named twice in --languages")
    record = _begin(out, prompts, origin, licence)
    texts = [prompt.text for prompt in prompts]
    for language in languages:
        translate_all(
            list(dict.fromkeys(texts)),
            language=language,
            translator=translator,
            name=translator_name,
            journal=out / JOURNALS / f"{language}.jsonl",
            batch_size=batch_size,
            progress=None if progress is None else (lambda count, code=language: progress(code, count)),
        )
        record["translators"] = {**_strings(record.get("translators")), language: translator_name}
        write_atomic(out / RECORD, _encoded(record), mode=PUBLIC_FILE)
    return assemble(out, prompts, record)


def build_as_it_is(table: PromptTable, out: Path, *, licence: str | None = None) -> Built:
    """Write a prompt set of the user's own, in the languages it has, as a data set.

    Args:
        table: The prompt set.
        out: Folder of the data set; must not hold one yet.
        licence: Licence of the prompts, for the card.

    Returns:
        What was written.

    Raises:
        DataError: When the folder is taken or cannot be written.
    """
    if (out / "data").exists():
        raise DataError(f"{out}: holds a data folder already; choose another --out")
    record = _begin(out, table.prompts, str(table.file), licence)
    rows = [StandardRow.of(prompt) for prompt in table.prompts]
    return _written(out, rows, record, table.languages)


def assemble(out: Path, prompts: Sequence[Prompt], record: dict[str, object]) -> Built:
    """Write Parquet files, card and language files from the journals."""
    rows = [replace(StandardRow.of(prompt), english=prompt.text) for prompt in prompts]
    translators = _strings(record.get("translators"))
    for language, name in sorted(translators.items()):
        done = read_journal(out / JOURNALS / f"{language}.jsonl", name=name, language=language)
        rows.extend(_row(prompt, language, done.get(prompt.text)) for prompt in prompts)
    return _written(out, rows, record, (ENGLISH, *sorted(translators)))


def _written(out: Path, rows: list[StandardRow], record: dict[str, object], languages: tuple[str, ...]) -> Built:
    rows, corrected = apply_recorded(out, rows)
    write_standard(out / "data", rows)
    new_files = _write_language_files(out / "languages", rows)
    write_card(out, rows, record)
    failed = Counter(row.language for row in rows if row.status == "failed")
    most = max(Counter(row.language for row in rows).values())
    return Built(
        out, languages, most, {code: failed[code] for code in languages if code != ENGLISH}, corrected, tuple(new_files)
    )


def _begin(out: Path, prompts: Sequence[Prompt], origin: str, licence: str | None) -> dict[str, object]:
    lines = [f"{p.prompt_set} {p.split} {p.harm} {p.prompt_id} {p.text!a}" for p in prompts]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    path = out / RECORD
    if path.exists():
        found = parse_json(read_text(path), str(path))
        if not isinstance(found, dict) or found.get("prompts_sha256") != digest:
            raise DataError(f"{out}: holds a data set of other prompts; choose another --out")
        return dict(found)
    if (out / "data").exists():
        raise DataError(f"{out}: holds a data folder that no build wrote; choose another --out")
    record: dict[str, object] = {
        "schema_version": 1,
        "prompts": origin,
        "prompts_sha256": digest,
        "rows": len(prompts),
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "licence": licence,
        "sources": sorted(source.name for source in published().sources)
        if any(p.prompt_set != "file" for p in prompts)
        else [],
        "translators": {},
    }
    write_atomic(path, _encoded(record), mode=PUBLIC_FILE)
    return record


def _write_language_files(folder: Path, rows: Sequence[StandardRow]) -> list[Path]:
    """Write a file for each language that has none; existing files are a person's and stay."""
    known = load_languages()
    written: list[Path] = []
    for language in dict.fromkeys(row.language for row in rows):
        path = folder / f"{language}.toml"
        if language not in known and not path.exists():
            texts = [row.text for row in rows if row.language == language and row.text is not None]
            write_atomic(path, language_file(language, texts).encode(), mode=PUBLIC_FILE)
            written.append(path)
    return written


def _encoded(record: dict[str, object]) -> bytes:
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def _strings(value: object) -> dict[str, str]:
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}


def _row(prompt: Prompt, language: str, result: Translated | None) -> StandardRow:
    row = replace(StandardRow.of(prompt), english=prompt.text, language=language)
    if result is None or result.text is None:
        reason = "not translated yet" if result is None else result.error
        return replace(row, text=None, status="failed", note=reason)
    return replace(row, text=result.text, back_translation=result.back, note=result.error)
