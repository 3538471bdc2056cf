"""A user's own prompt set in one file: a row a prompt, with its language and class, and what an audit needs of it.

| column | other names | values |
|---|---|---|
| `text` | prompt, instruction, goal, behavior | the prompt |
| `harm` | class | harmful, unsafe, 1, true; harmless, safe, benign, 0, false |
| `lang` | language | a BCP-47 code (en-US is read as en) or an English name; may be absent when the caller names one language |
| `split` | | train, val (validation, dev), test; may be absent |
| `id` | prompt_id | shared by the translations of an instruction; else from `english`, else from the text |
| `prompt_set` | | rows without one, or else of the first one named, are the main set; others are further test sets |
| `english`, `topic`, `category` | | optional |

Splits that the file does not make are drawn here, from the ids, so that all translations of an instruction fall into the
same: of the n instructions of a class in a language, the first min(n_train, 2n/5) by sha256(seed:id) become train, the
next min(n_val, n/10) val (at least one each), the rest test; what another language has drawn already stays as it is.
Where one class is absent no direction can be found, and all are test.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from refusal_lens.errors import DataError
from refusal_lens.languages import load_languages
from refusal_lens.prompts.loading.cell import (
    ENGLISH,
    OWN_SET,
    AbsentCell,
    Cell,
    base_id,
    check_language,
    id_of,
    number_copies,
)
from refusal_lens.prompts.loading.own_file import TEXT_COLUMNS, MissingColumnError, said
from refusal_lens.prompts.loading.tabular import Row, TextTable, read_rows
from refusal_lens.prompts.loading.texts import clean_text
from refusal_lens.types import HARMS, Harm, Prompt, Split

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "text": TEXT_COLUMNS,
    "lang": ("lang", "language"),
    "harm": ("harm", "class"),
    "split": ("split",),
    "id": ("id", "prompt_id"),
    "prompt_set": ("prompt_set",),
    "english": ("english",),
    "topic": ("topic",),
    "category": ("category",),
}
"""What a table tells of a prompt, and the column names it is found under, the first that is there."""

_HARMS: Mapping[str, Harm] = {
    "harmful": "harmful", "unsafe": "harmful", "true": "harmful", "1": "harmful",
    "harmless": "harmless", "safe": "harmless", "benign": "harmless", "false": "harmless", "0": "harmless",
}  # fmt: skip
_SPLITS: Mapping[str, Split] = {"train": "train", "val": "val", "validation": "val", "dev": "val", "test": "test"}


@dataclass(frozen=True)
class PromptTable:
    """A prompt set of a user's own.

    Attributes:
        file: Where it was read.
        prompts: Its prompts in order, of all languages, classes, splits and sets.
        main_set: The set that is audited unless another is asked for.
        notes: What was decided for the user, one sentence each: the splits made, ids that pair no translations.
    """

    file: Path
    prompts: tuple[Prompt, ...]
    main_set: str
    notes: tuple[str, ...]

    @property
    def languages(self) -> tuple[str, ...]:
        """Its languages in order of appearance."""
        return tuple(dict.fromkeys(prompt.language for prompt in self.prompts))

    def cell(self, language: str, split: Split, harm: Harm, prompt_set: str | None = None) -> list[Prompt]:
        """The prompts of one cell, in file order.

        Args:
            language: BCP-47 code.
            split: The split.
            harm: The class.
            prompt_set: The set; the main one when None.

        Returns:
            At least one prompt.

        Raises:
            AbsentCell: There is none.
        """
        cell = Cell(language, split, harm, prompt_set or self.main_set)
        found = [
            prompt
            for prompt in self.prompts
            if Cell(prompt.language, prompt.split, prompt.harm, prompt.prompt_set) == cell
        ]
        if not found:
            there = ", ".join(self.languages)
            raise AbsentCell(f"no {cell} prompts in {self.file} (languages there: {there})", cell)
        return found

    def summary(self) -> str:
        """What was read, for the user to check."""
        counts = Counter(prompt.language for prompt in self.prompts)
        languages = ", ".join(f"{language} {count}" for language, count in counts.items())
        return f"{self.file}: {said(self.prompts)} ({languages})"


def load_prompt_table(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    languages: Sequence[str] = (),
    harm: Harm | None = None,
    seed: int = 0,
    n_train: int = 128,
    n_val: int = 32,
) -> PromptTable:
    """Load a prompt set of the user's own from a CSV, TSV, Parquet, JSON or JSON Lines file.

    Args:
        path: The file; see the module's docstring for its columns.
        columns: Column of the file by what it tells ("text", "lang", ..), where it has another name.
        languages: The languages asked for; a file without a language column is in the only one.
        harm: Class of a file without a column for it.
        seed: Seed of the splits that are made here.
        n_train: Most train instructions of a class, where splits are made here.
        n_val: Most val instructions of a class, likewise.

    Returns:
        Its prompts; ids are unique within a cell, and splits are disjoint wherever they were made here.

    Raises:
        DataError: When the file, a column or a row cannot be used.

    Example:
        >>> load_prompt_table("own.csv", columns={"text": "goal"}).cell("en", "test", "harmful")  # doctest: +SKIP
    """
    table = read_rows(Path(path), headers=TEXT_COLUMNS)
    if not table.rows:
        raise DataError(f"{table.file}: no prompts in it; a row needs the columns text, lang and harm")
    names = _names(table, columns or {}, needed=("text",) if harm else ("text", "harm"))
    only = languages[0] if len(languages) == 1 else None
    if not names["lang"] and only is None:
        raise MissingColumnError(
            f"{table.file}: no column `lang`; add one, name yours (--column lang=NAME), or ask for the one language the "
            f"prompts are in (--languages en); columns there: {table.listed()}"
        )
    drafts = _prompts(table.rows, names, only, harm)
    sets = [prompt.prompt_set for prompt in drafts]
    main_set = OWN_SET if OWN_SET in sets else sets[0]
    _check_ids(table.file, drafts, given=bool(names["id"]))
    notes: list[str] = []
    if not names["split"]:
        drafts, note = _with_splits(table.file, drafts, main_set, seed, n_train, n_val)
        notes.append(note)
    if not names["id"] and not names["english"] and len({prompt.language for prompt in drafts}) > 1:
        notes.append(
            f"{table.file} has no column id or english: which prompts are translations of each other is not known, so one "
            "may be taken for a direction and another for its test"
        )
    cells = [Cell(prompt.language, prompt.split, prompt.harm, prompt.prompt_set) for prompt in drafts]
    unique: dict[Cell, Iterator[str]] = {
        cell: iter(number_copies(prompt.prompt_id for prompt, of in zip(drafts, cells, strict=True) if of == cell))
        for cell in set(cells)
    }
    prompts = tuple(replace(prompt, prompt_id=next(unique[cell])) for prompt, cell in zip(drafts, cells, strict=True))
    return PromptTable(table.file, prompts, main_set, tuple(notes))


def _names(table: TextTable, columns: Mapping[str, str], needed: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The column names to look under for everything a table may tell; none where it does not."""
    for name, column in columns.items():
        if name not in COLUMNS:
            raise DataError(f"nothing is called {name!a}; a column can be named for {', '.join(COLUMNS)}")
        if table.named((column,)) is None:
            raise MissingColumnError(f"{table.file}: no column {column!a}; columns there: {table.listed()}")
    names = {name: (columns[name],) if name in columns else usual for name, usual in COLUMNS.items()}
    found = {name: names[name] if table.named(names[name]) is not None else () for name in COLUMNS}
    for name in needed:
        if not found[name]:
            raise MissingColumnError(
                f"{table.file}: no column `{name}`{' (harmful or harmless)' if name == 'harm' else ''}; add it, or name "
                f"yours (--column {name}=NAME); columns there: {table.listed()}"
            )
    return found


def _prompts(
    rows: Sequence[Row], names: Mapping[str, tuple[str, ...]], only: str | None, harm: Harm | None
) -> list[Prompt]:
    known = {item.english_name.casefold(): code for code, item in load_languages().items()}
    known |= {code.casefold(): code for code in (*known.values(), *((only,) if only else ()))}
    read: list[Prompt] = []
    for row in rows:
        column = row.written(*names["text"])
        text = clean_text(None if column is None else row.fields()[column], row.where)
        written = row.optional(*names["lang"]) or only
        if written is None:
            raise DataError(f"{row.where}: the language is empty; write a code such as en in every row")
        language = _known_code(written.strip(), known)
        check_language(language, where=row.where)
        english = row.optional(*names["english"]) or (text if language == ENGLISH else None)
        read.append(
            Prompt(
                row.given_id(*names["id"]) or id_of(english or text),
                language,
                harm
                if harm is not None and not names["harm"]
                else _value(row, names["harm"], _HARMS, "class", "harmful or harmless"),
                _value(row, names["split"], _SPLITS, "split", "train, val or test") if names["split"] else "test",
                text,
                row.optional(*names["prompt_set"]) or OWN_SET,
                english,
                row.optional(*names["topic"]),
                row.optional(*names["category"]),
            )
        )
    return read


def _known_code(written: str, known: Mapping[str, str]) -> str:
    """The code of a language that there is a file for: as written, or, as for en-US, without its region; else what is written."""
    base = written.replace("_", "-").partition("-")[0]
    return known.get(written.casefold()) or known.get(base.casefold() if base != written else "") or written


ValueT = TypeVar("ValueT")


def _value(row: Row, names: tuple[str, ...], known: Mapping[str, ValueT], what: str, expected: str) -> ValueT:
    column = row.written(*names)
    value = None if column is None else row.fields()[column]
    found = known.get(str(value).strip().casefold())
    if found is None:
        raise DataError(f"{row.where}: the {what} is {str(value)[:40]!a}; write {expected}")
    return found


def _check_ids(file: Path, prompts: Sequence[Prompt], *, given: bool) -> None:
    """An id is one instruction: of one class, and, where the file gives ids, once in each language of a set."""
    harms: dict[tuple[str, str], Harm] = {}
    for prompt in prompts:
        if harms.setdefault((prompt.prompt_set, prompt.prompt_id), prompt.harm) != prompt.harm:
            which = f"id {prompt.prompt_id!a}" if given else f"the prompt {prompt.text[:60]!r}"
            raise DataError(f"{file}: {which} is harmful in one row and harmless in another; give each class its own")
    counts = Counter((prompt.prompt_set, prompt.language, prompt.prompt_id) for prompt in prompts)
    (_, language, prompt_id), most = counts.most_common(1)[0]
    if given and most > 1:
        raise DataError(
            f"{file}: id {prompt_id!a} occurs {most} times in {language}; translations share an id, rows do not"
        )


def _with_splits(
    file: Path, prompts: Sequence[Prompt], main_set: str, seed: int, n_train: int, n_val: int
) -> tuple[list[Prompt], str]:
    """The prompts with splits drawn by id, and a sentence that says so."""
    present = {prompt.harm for prompt in prompts if prompt.prompt_set == main_set}
    if len(present) < len(HARMS):
        lacking = next(harm for harm in HARMS if harm not in present)
        return list(
            prompts
        ), f"{file} has no {lacking} prompts, so no direction can be found: all prompts are for the test"
    split_of: dict[str, Split] = {}
    counted: list[str] = []
    for harm in HARMS:
        kind = [(p.language, base_id(p.prompt_id)) for p in prompts if p.harm == harm and p.prompt_set == main_set]
        for language in sorted({of for of, _ in kind}):
            ids = {one for of, one in kind if of == language}
            free = sorted(
                ids - split_of.keys(), key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest()
            )  # those of its translations are drawn already
            targets: tuple[tuple[Split, int], ...] = (
                ("train", min(n_train, max(1, 2 * len(ids) // 5))),
                ("val", min(n_val, max(1, len(ids) // 10))),
                ("test", len(ids)),
            )
            for split, target in targets:
                lacking = max(0, target - sum(split_of.get(one) == split for one in ids))
                split_of.update(dict.fromkeys(free[:lacking], split))
                free = free[lacking:]
        found = Counter(split_of[one] for one in {one for _, one in kind})
        counted.append(f"{found.total()} {harm} = {found['train']} train + {found['val']} val + {found['test']} test")
    drawn = [
        replace(prompt, split=split_of[base_id(prompt.prompt_id)]) if prompt.prompt_set == main_set else prompt
        for prompt in prompts
    ]
    return drawn, f"{file} has no column split: drawn by id with seed {seed}: {', '.join(counted)} instructions"
