"""All cells of PolyRefuse that an analysis needs, with what is missing and what overlaps told by name.

Steps: load every asked cell; collect absent cells instead of stopping; take test prompts whose instruction also stands
in train or val out of the test cells and report them; digest what is left.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from refusal_lens.errors import DataError, MissingCell
from refusal_lens.prompts.identity import base_id
from refusal_lens.prompts.sets import load_prompts
from refusal_lens.types import HARMS, SPLITS, Harm, Prompt, Split


@dataclass(frozen=True, slots=True)
class Overlap:
    """A test prompt that was taken out because its instruction also stands in a selection split.

    Attributes:
        prompt_id: Its id.
        language: The test cell's language.
        harm: The test cell's class.
        found_in: Where else it stands, e.g. "harmful train".
    """

    prompt_id: str
    language: str
    harm: Harm
    found_in: str


@dataclass(frozen=True)
class Grid:
    """Prompts by cell.

    Attributes:
        prompts: (language, split, class) -> prompts in file order; absent cells are not in it.
        missing: One entry per absent cell; its message names the cell.
        overlaps: Test prompts taken out.
        digest: SHA-256 over all prompts, in the order of sorted cells.
    """

    prompts: Mapping[tuple[str, Split, Harm], tuple[Prompt, ...]]
    missing: tuple[MissingCell, ...]
    overlaps: tuple[Overlap, ...]
    digest: str


def load_grid(
    root: str | os.PathLike[str],
    *,
    languages: Sequence[str],
    splits: Sequence[Split] = SPLITS,
    harms: Sequence[Harm] = HARMS,
) -> Grid:
    """Load many cells at once.

    Args:
        root: As for `load_prompts`.
        languages: BCP-47 codes.
        splits: Splits to load.
        harms: Classes to load.

    Returns:
        The grid; test cells are disjoint from the loaded train and val cells of every language.

    Raises:
        DataError: When the root or a file in it cannot be used, or not one asked cell exists.
    """
    cells: dict[tuple[str, Split, Harm], tuple[Prompt, ...]] = {}
    missing: list[MissingCell] = []
    for language in languages:
        for split in splits:
            for harm in harms:
                try:
                    cells[language, split, harm] = tuple(load_prompts(root, language=language, split=split, harm=harm))
                except MissingCell as absent:
                    missing.append(absent)
    if not cells:
        raise DataError(f"{root}: none of the asked cells is there; " + "; ".join(str(cell) for cell in missing[:3]))
    disjoint, overlaps = _disjoint(cells)
    return Grid(disjoint, tuple(missing), tuple(overlaps), _digest(disjoint))


def _disjoint(
    cells: Mapping[tuple[str, Split, Harm], tuple[Prompt, ...]],
) -> tuple[dict[tuple[str, Split, Harm], tuple[Prompt, ...]], list[Overlap]]:
    selection: dict[str, str] = {}
    for (_, split, harm), part in cells.items():
        if split != "test":
            selection.update((base_id(prompt.prompt_id), f"{harm} {split}") for prompt in part)
    kept: dict[tuple[str, Split, Harm], tuple[Prompt, ...]] = {}
    overlaps: list[Overlap] = []
    for (language, split, harm), part in cells.items():
        known = [selection.get(base_id(prompt.prompt_id)) if split == "test" else None for prompt in part]
        kept[language, split, harm] = tuple(prompt for prompt, place in zip(part, known, strict=True) if place is None)
        overlaps.extend(
            Overlap(prompt.prompt_id, language, harm, place)
            for prompt, place in zip(part, known, strict=True)
            if place is not None
        )
    return kept, overlaps


def _digest(cells: Mapping[tuple[str, Split, Harm], tuple[Prompt, ...]]) -> str:
    hasher = hashlib.sha256()
    for key in sorted(cells):
        for prompt in cells[key]:
            hasher.update(json.dumps(asdict(prompt), sort_keys=True, ensure_ascii=True).encode() + b"\n")
    return hasher.hexdigest()
