"""The data set layout that Hugging Face `datasets` loads as it is: one folder per language, one Parquet file per split.

    data/{language}/{train,validation,test}-00000-of-00001.parquet

Columns: prompt_id, language, harm, split, text, english, back_translation, category, prompt_set, status, note. `status`
is `ok`, `failed` (no translation: `text` is null, `note` says why) or `corrected` (a human's text). Rows keep the order
of the prompts they were built from, in every language; nothing is dropped.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast

import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.core.files import PUBLIC_FILE, write_atomic
from refusal_lens.errors import DataError
from refusal_lens.prompts.loading.cell import OWN_SET, POLYREFUSE, AbsentCell, Cell
from refusal_lens.prompts.loading.texts import clean_text
from refusal_lens.types import HARMS, SPLITS, Harm, Prompt, Split

Status: TypeAlias = Literal["ok", "failed", "corrected"]

SPLIT_FILES: Mapping[Split, str] = {
    split: f"{'validation' if split == 'val' else split}-00000-of-00001.parquet" for split in SPLITS
}
STATUSES: tuple[Status, ...] = ("ok", "failed", "corrected")


@dataclass(frozen=True, slots=True)
class StandardRow:
    """One row of a built data set; see the module's docstring for its columns."""

    prompt_id: str
    language: str
    harm: Harm
    split: Split
    text: str | None
    english: str | None
    back_translation: str | None
    category: str | None
    prompt_set: str
    status: Status = "ok"
    note: str | None = None

    @staticmethod
    def of(prompt: Prompt) -> StandardRow:
        """The row of a prompt that was not translated here."""
        return StandardRow(
            prompt.prompt_id, prompt.language, prompt.harm, prompt.split, prompt.text, prompt.english, None,
            prompt.category, prompt.prompt_set,
        )  # fmt: skip


_COLUMNS = tuple(StandardRow.__dataclass_fields__)
_SCHEMA = pa.schema([(name, pa.string()) for name in _COLUMNS])


def write_standard(folder: Path, rows: Iterable[StandardRow]) -> list[Path]:
    """Write a data set's Parquet files, one per language and split, each in one step."""
    parts: dict[tuple[str, Split], list[StandardRow]] = {}
    for row in rows:
        parts.setdefault((row.language, row.split), []).append(row)
    written: list[Path] = []
    for (language, split), part in parts.items():
        path = folder / language / SPLIT_FILES[split]
        content = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([asdict(row) for row in part], schema=_SCHEMA), content)
        write_atomic(path, content.getvalue(), mode=PUBLIC_FILE)
        written.append(path)
    return sorted(written)


def read_standard_rows(path: Path) -> list[StandardRow]:
    """Read one Parquet file of a data set."""
    try:
        table = pq.read_table(path)
        names, records = table.column_names, cast("list[dict[str, object]]", table.to_pylist())
    except (
        OSError,
        ValueError,
        pa.ArrowException,
    ) as error:  # damaged names and texts are decoded late: UnicodeDecodeError
        reason = ascii(str(error).partition("\n")[0][:200])
        raise DataError(f"{path}: not a readable Parquet file ({reason}); build or fetch it again") from None
    lacking = [name for name in ("prompt_id", "harm", "split", "text") if name not in names]
    if lacking:
        raise DataError(f"{path}: no column {', '.join(lacking)}; is this a data set of `refusal-lens data build`?")
    rows: list[StandardRow] = []
    for number, record in enumerate(records, start=1):
        values = {name: record.get(name) for name in _COLUMNS}
        wrong = [name for name, value in values.items() if not isinstance(value, str | None)]
        if wrong:
            raise DataError(f"{path}, row {number}: column {', '.join(wrong)} holds no text")
        values["language"] = values["language"] or path.parent.name
        values["prompt_set"] = values["prompt_set"] or POLYREFUSE
        values["status"] = values["status"] or "ok"
        if (
            values["harm"] not in HARMS
            or values["split"] not in SPLITS
            or values["status"] not in STATUSES
            or not values["prompt_id"]
        ):
            raise DataError(
                f"{path}, row {number}: prompt_id, harm, split or status is not one of those a data set has"
            )
        rows.append(StandardRow(**values))  # pyright: ignore[reportArgumentType]  # checked just above
    return rows


def read_standard(folder: Path, cell: Cell, *, main: bool = False) -> list[Prompt]:
    """Load one cell of a built data set as prompts."""
    path = folder / cell.language / SPLIT_FILES[cell.split]
    rows = read_standard_rows(path) if path.exists() else []
    if main:
        sets = sorted({row.prompt_set for row in rows}, key=lambda name: (name != POLYREFUSE, name != OWN_SET))
        if sets and (len(sets) == 1 or sets[0] in {POLYREFUSE, OWN_SET}):
            cell = replace(cell, prompt_set=sets[0])
    of_cell = [row for row in rows if row.harm == cell.harm and row.prompt_set == cell.prompt_set]
    usable = [row for row in of_cell if row.status != "failed"]
    if not usable:
        why = f"all {len(of_cell)} rows of it are marked failed" if of_cell else f"not in {path}"
        raise AbsentCell(f"no {cell} prompts: {why}", cell)
    repeated = len(usable) - len({row.prompt_id for row in usable})
    if repeated:
        raise DataError(f"{path}: {repeated} rows of {cell} repeat a prompt_id; ids must be unique within a cell")
    return [_prompt(row, cell, path) for row in usable]


def _prompt(row: StandardRow, cell: Cell, path: Path) -> Prompt:
    text = clean_text(row.text, f"{path}, {row.prompt_id!a}")
    return Prompt(
        row.prompt_id, cell.language, row.harm, row.split, text, row.prompt_set, row.english, None, row.category
    )


def standard_sets(folder: Path) -> dict[str, tuple[set[Harm], set[str]]]:
    """Sets of a built data set: name -> (classes, languages)."""
    found: dict[str, tuple[set[Harm], set[str]]] = {}
    for path in sorted(folder.glob("*/*.parquet")):
        for row in read_standard_rows(path):
            harms, languages = found.setdefault(row.prompt_set, (set(), set()))
            harms.add(row.harm)
            languages.add(row.language)
    return found
