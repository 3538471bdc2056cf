"""Loading prompts by set: PolyRefuse, and the over-refusal and jailbreak sets that lie in the same repository.

| set | class | languages |
|---|---|---|
| polyrefuse | both; train, val, test | 14 |
| xstest | safe = harmless, unsafe = harmful; test | en |
| oktest | harmless; test | en |
| jailbreakbench | harmful; test | 14 |

A data set written by `refusal-lens data build` may hold any set in any language. Ids come from the English text, so a
JailbreakBench prompt has the id of its twin in the harmful test split. Drawing depends on the ids alone, so that every
language draws the same instructions, and a smaller draw with the same seed is the beginning of a larger one:

    rank(prompt) = sha256(seed : prompt_id), the n lowest ranks are drawn, in rank order
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass

from refusal_lens.errors import DataError
from refusal_lens.prompts.loading.built import read_standard, standard_sets
from refusal_lens.prompts.loading.cell import POLYREFUSE, Cell, base_id
from refusal_lens.prompts.loading.cells import read_cell, to_prompts
from refusal_lens.prompts.loading.layout import FURTHER_SETS, find_layout
from refusal_lens.types import HARMS, Harm, Prompt, Split


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
    root: str | os.PathLike[str], *, language: str, split: Split, harm: Harm, prompt_set: str | None = None
) -> list[Prompt]:
    """Load one cell of a prompt set.

    Args:
        root: The paper's repository, its `PolyRefuse` folder, a folder above either, or a built data set.
        language: BCP-47 code.
        split: train, val or test; further sets have only test.
        harm: harmful or harmless.
        prompt_set: polyrefuse, xstest, oktest, jailbreakbench, or a set of a built data set; the main set when None: PolyRefuse,
            or what a built data set holds instead of it.

    Returns:
        Prompts in file order; ids are unique within the cell and shared by all translations. Copies of an earlier
        instruction stay, with an id that ends in "~2": the published rates are over all rows.

    Raises:
        MissingCell: When the source has no such cell.
        DataError: When the source or the cell's file cannot be used, or an argument names nothing known.
    """
    cell = Cell(language, split, harm, prompt_set or POLYREFUSE).checked()
    layout = find_layout(root)
    if layout.parquet is not None:
        return read_standard(layout.parquet, cell, main=prompt_set is None)
    if cell.prompt_set != POLYREFUSE and cell.prompt_set not in FURTHER_SETS:
        raise DataError(f"no prompt set {prompt_set!a}; known sets: {', '.join((POLYREFUSE, *FURTHER_SETS))}")
    return to_prompts(read_cell(layout, cell), cell)


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
        return tuple(PromptSet(name, _ordered(harms), tuple(sorted(codes))) for name, (harms, codes) in found.items())
    sets = [PromptSet(POLYREFUSE, HARMS, layout.languages())] if layout.languages() else []
    for name, files in FURTHER_SETS.items():
        languages = layout.languages(name)
        if languages:
            sets.append(PromptSet(name, _ordered(files), languages))
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


def sample(prompts: Sequence[Prompt], *, n: int, seed: int) -> list[Prompt]:
    """Draw prompts by id.

    Args:
        prompts: Prompts with unique ids, usually one cell.
        n: How many to draw.
        seed: Any integer; the same seed draws the same ids in every language.

    Returns:
        `n` prompts in rank order.

    Raises:
        DataError: When there are fewer than `n`, `n` is negative, or an id occurs twice.
    """
    if n < 0:
        raise DataError(f"cannot draw {n} prompts; ask for 0 or more")
    if n > len(prompts):
        first = f" ({prompts[0].language} {prompts[0].harm} {prompts[0].split})" if prompts else ""
        raise DataError(f"{n} prompts asked, {len(prompts)} there{first}; ask for at most {len(prompts)}")
    ranked = {prompt.prompt_id: prompt for prompt in prompts}
    if len(ranked) != len(prompts):
        raise DataError(
            f"{len(prompts) - len(ranked)} of {len(prompts)} prompts repeat an id; ids must be unique to draw by them"
        )
    order = sorted(ranked, key=lambda prompt_id: hashlib.sha256(f"{seed}:{prompt_id}".encode()).digest())
    return [ranked[prompt_id] for prompt_id in order[:n]]


def _ordered(harms: Container[str]) -> tuple[Harm, ...]:
    return tuple(harm for harm in HARMS if harm in harms)
