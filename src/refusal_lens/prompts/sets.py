"""Loading prompts by set: PolyRefuse, and the over-refusal and jailbreak sets that lie in the same repository.

| set | class | languages | file |
|---|---|---|---|
| polyrefuse | both | 14 | `PolyRefuse/`, `dataset/splits/` |
| xstest | safe = harmless, unsafe = harmful | en | `dataset/processed/xstest_{safe,unsafe}.json` |
| oktest | harmless | en | `dataset/processed/oktest_100.json` |
| jailbreakbench | harmful | 14 | `dataset/splits_multi/jailbreakbench_test_translated_{language}.json` |

A data set written by `refusal-lens data build` may hold any set in any language. Ids come from the English text, so a
JailbreakBench prompt has the id of its twin in the harmful test split.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.prompts.cells import ENGLISH, AbsentCell, Row, read_cell, to_prompts
from refusal_lens.prompts.identity import base_id
from refusal_lens.prompts.layout import LANGUAGE_CODE, Layout, find_layout
from refusal_lens.prompts.reading import read_records
from refusal_lens.prompts.standard import read_standard, standard_sets
from refusal_lens.types import HARMS, SPLITS, Harm, Prompt, Split

POLYREFUSE_SET = "polyrefuse"
FURTHER_SETS = ("jailbreakbench", "oktest", "xstest")

_FILES: dict[tuple[str, Harm], str] = {
    ("xstest", "harmless"): "processed/xstest_safe.json",
    ("xstest", "harmful"): "processed/xstest_unsafe.json",
    ("oktest", "harmless"): "processed/oktest_100.json",
    ("jailbreakbench", "harmful"): "splits_multi/jailbreakbench_test_translated_{language}.json",
}


@dataclass(frozen=True, slots=True)
class PromptSet:
    """A prompt set present in a folder.

    Attributes:
        name: What `load_prompts` calls it.
        harms: Classes it has.
        languages: Languages it has, sorted.
    """

    name: str
    harms: tuple[Harm, ...]
    languages: tuple[str, ...]


def load_prompts(
    root: str | os.PathLike[str], *, language: str, split: Split, harm: Harm, prompt_set: str = POLYREFUSE_SET
) -> list[Prompt]:
    """Load one cell of a prompt set.

    Args:
        root: The paper's repository, its `PolyRefuse` folder, a folder above either, or a built data set.
        language: BCP-47 code.
        split: train, val or test; further sets have only test.
        harm: harmful or harmless.
        prompt_set: polyrefuse, xstest, oktest, jailbreakbench, or a set of a built data set.

    Returns:
        Prompts in file order; ids are unique within the cell and shared by all translations. Copies of an earlier
        instruction stay, with an id that ends in "~2": the published rates are over all rows.

    Raises:
        MissingCell: When the source has no such cell.
        DataError: When the source or the cell's file cannot be used, or an argument names nothing known.
    """
    if not LANGUAGE_CODE.fullmatch(language):
        raise DataError(f"{language!a} is no language code; write it like en, zh or pt-BR")
    if split not in SPLITS or harm not in HARMS:
        raise DataError(
            f"no split {split!r} of class {harm!r}; splits: {', '.join(SPLITS)}; classes: {', '.join(HARMS)}"
        )
    layout = find_layout(root)
    if layout.parquet is not None:
        return read_standard(layout.parquet, language=language, split=split, harm=harm, prompt_set=prompt_set)
    if prompt_set == POLYREFUSE_SET:
        rows = read_cell(layout, language=language, split=split, harm=harm)
    elif prompt_set in FURTHER_SETS:
        rows = _further_rows(layout, prompt_set, language=language, split=split, harm=harm)
    else:
        raise DataError(f"no prompt set {prompt_set!a}; known sets: {', '.join((POLYREFUSE_SET, *FURTHER_SETS))}")
    return to_prompts(rows, language=language, split=split, harm=harm, prompt_set=prompt_set)


def prompt_sets(root: str | os.PathLike[str]) -> tuple[PromptSet, ...]:
    """List the prompt sets that a folder holds.

    Args:
        root: As for `load_prompts`.

    Returns:
        Sets by name, PolyRefuse first where present.

    Raises:
        DataError: When the folder cannot be used.
    """
    layout = find_layout(root)
    if layout.parquet is not None:
        found = standard_sets(layout.parquet)
        return tuple(
            PromptSet(name, tuple(harm for harm in HARMS if harm in harms), tuple(sorted(languages)))
            for name, (harms, languages) in found.items()
        )
    sets = [PromptSet(POLYREFUSE_SET, HARMS, layout.languages())] if layout.languages() else []
    for name in FURTHER_SETS:
        languages = {harm: _languages_of(layout, name, harm) for harm in HARMS}
        if any(languages.values()):
            harms = tuple(harm for harm in HARMS if languages[harm])
            sets.append(PromptSet(name, harms, tuple(sorted({code for codes in languages.values() for code in codes}))))
    return tuple(sets)


def without_overlap(test: Sequence[Prompt], selection: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Split test prompts by whether their instruction also stands in the selection prompts.

    Args:
        test: Test prompts.
        selection: Train and val prompts, of any language.

    Returns:
        The disjoint test prompts and the overlapping ones, both in order.
    """
    taken = {base_id(prompt.prompt_id) for prompt in selection}
    kept = [prompt for prompt in test if base_id(prompt.prompt_id) not in taken]
    return kept, [prompt for prompt in test if base_id(prompt.prompt_id) in taken]


def set_file(layout: Layout, name: str, *, language: str, harm: Harm) -> Path | None:
    """Path of a further set's file for one cell, None where the set has no such class or language."""
    pattern = _FILES.get((name, harm))
    if pattern is None or layout.dataset is None:
        return None
    if "{language}" not in pattern and language != ENGLISH:
        return None
    path = layout.dataset / pattern.format(language=language)
    return path if path.exists() else None


def _further_rows(layout: Layout, name: str, *, language: str, split: Split, harm: Harm) -> list[Row]:
    path = set_file(layout, name, language=language, harm=harm) if split == "test" else None
    if path is None:
        languages = ", ".join(_languages_of(layout, name, harm)) or "none"
        raise AbsentCell(f"{name} has no {language} {harm} {split} prompts (only test; languages of this class: {languages})",
                         language=language, split=split, harm=harm, prompt_set=name)  # fmt: skip
    rows: list[Row] = []
    for number, record in enumerate(read_records(path), start=1):
        where = f"{path}, row {number}"
        instruction, translated = record.get("instruction"), record.get("instruction_translated")
        category = record.get("category")
        if not isinstance(instruction, str):
            raise DataError(f"{where}: no `instruction` text; repair or re-download the file")
        text = instruction.rstrip("\n") if language == ENGLISH else translated
        rows.append(Row(where, text, instruction.rstrip("\n"), category if isinstance(category, str) else None))
    return rows


def _languages_of(layout: Layout, name: str, harm: Harm) -> list[str]:
    pattern = _FILES.get((name, harm))
    if pattern is None or layout.dataset is None:
        return []
    if "{language}" not in pattern:
        return [ENGLISH] if (layout.dataset / pattern).exists() else []
    path = layout.dataset / pattern
    before, after = path.name.split("{language}")
    return (
        sorted(found.name[len(before) : -len(after)] for found in path.parent.glob(f"{before}*{after}"))
        if path.parent.is_dir()
        else []
    )
