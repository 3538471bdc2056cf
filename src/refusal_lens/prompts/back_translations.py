"""Back-translations of a cell, paired with their English originals; nulls stay, as what could not be scored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.prompts.identity import id_of, number_copies
from refusal_lens.prompts.layout import Layout, parquet_languages
from refusal_lens.prompts.reading import read_records, row_fault
from refusal_lens.prompts.standard import SPLIT_FILES, read_standard_rows
from refusal_lens.types import SPLITS

_FAILED = re.compile(r"\W*(translation failed|translation error|error|none|null|nan)\W*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BackTranslation:
    """An English original and its back-translation; `back` is None where there is none."""

    prompt_id: str
    english: str
    back: str | None


def back_translations(path: Path) -> list[BackTranslation]:
    """Read a published back-translation file.

    Args:
        path: The file.

    Returns:
        Pairs in file order. Null, empty and failed back-translations have `back` None.

    Raises:
        DataError: When the file is broken or a row has no English original.
    """
    pairs: list[tuple[str, str | None]] = []
    for number, record in enumerate(read_records(path), start=1):
        english, back = record.get("instruction"), record.get("instruction_back_translated")
        if not isinstance(english, str) or row_fault(english) is not None:
            raise DataError(f"{path}, row {number}: no English `instruction`; repair or re-download the file")
        if back is not None and not isinstance(back, str):
            raise DataError(f"{path}, row {number}: `instruction_back_translated` is no text")
        pairs.append((english, usable(back)))
    ids = number_copies(id_of(english) for english, _ in pairs)
    return [BackTranslation(prompt_id, english, back) for prompt_id, (english, back) in zip(ids, pairs, strict=True)]


def usable(back: str | None) -> str | None:
    """A back-translation that can be scored, or None: null, empty, undecodable, or a failure message."""
    return None if back is None or row_fault(back) is not None or _FAILED.fullmatch(back) else back


def all_back_translations(layout: Layout) -> dict[str, list[BackTranslation]]:
    """Every back-translation that a folder holds.

    Args:
        layout: Where the files lie.

    Returns:
        Language code -> pairs. A built data set has them for every split and class.

    Raises:
        DataError: When a file is broken.
    """
    if layout.parquet is None:
        return {code: back_translations(path) for code, path in layout.back_translated().items()}
    found: dict[str, list[BackTranslation]] = {}
    for language in parquet_languages(layout.parquet):
        for split in SPLITS:
            path = layout.parquet / language / SPLIT_FILES[split]
            for row in read_standard_rows(path) if path.exists() else []:
                if row.english is not None and language != "en":
                    pair = BackTranslation(row.prompt_id, row.english, usable(row.back_translation))
                    found.setdefault(language, []).append(pair)
    return {language: pairs for language, pairs in found.items() if any(pair.back is not None for pair in pairs)}
