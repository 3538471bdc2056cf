"""Where the prompt files lie: the paper's repository, its `PolyRefuse` folder, a folder around either, or Parquet.

    ROOT/PolyRefuse/{harm}_{split}_translated_{language}.json             translations, and English test prompts
    ROOT/dataset/splits/{harm}_{split}[_N_sampled].json                   English train and val prompts
    ROOT/dataset/processed/{xstest_safe,xstest_unsafe,oktest_100}.json    over-refusal sets, English
    ROOT/dataset/splits_multi/jailbreakbench_test_translated_{language}.json
    ROOT/data/{language}/{split}-00000-of-00001.parquet                   what `refusal-lens data build` writes

Only looks; opens no file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.prompts.loading.cell import ENGLISH, POLYREFUSE, Cell
from refusal_lens.types import Harm

TRANSLATIONS = "PolyRefuse"
HOW_TO_GET = "get the files with `refusal-lens data download --dest DIR`, or name the folder that holds PolyRefuse/"

FURTHER_SETS: Mapping[str, Mapping[Harm, str]] = {
    "jailbreakbench": {"harmful": "splits_multi/jailbreakbench_test_translated_{language}.json"},
    "oktest": {"harmless": "processed/oktest_100.json"},
    "xstest": {"harmful": "processed/xstest_unsafe.json", "harmless": "processed/xstest_safe.json"},
}
"""File of each class of a further set, under `dataset/`; sets without {language} are English. They have only test."""

_CELL_FILE = re.compile(r"(harmful|harmless)_(train|val|test)_translated_([A-Za-z0-9-]+)\.json")


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one prompt source.

    Attributes:
        root: What the user named.
        translations: Folder of the `*_translated_*.json` files, None where absent.
        dataset: The repository's `dataset` folder, None where absent.
        parquet: Folder with one subfolder of Parquet files per language, None where absent.
    """

    root: Path
    translations: Path | None
    dataset: Path | None
    parquet: Path | None = None

    def expected(self, cell: Cell) -> Path | None:
        """Where a cell's own file should be, whether it exists or not; None where the set has no such cell."""
        if cell.prompt_set == POLYREFUSE:
            folder = self.translations or self.root / TRANSLATIONS
            return folder / f"{cell.harm}_{cell.split}_translated_{cell.language}.json"
        pattern = FURTHER_SETS[cell.prompt_set].get(cell.harm)
        if pattern is None or cell.split != "test" or ("{language}" not in pattern and cell.language != ENGLISH):
            return None
        return (self.dataset or self.root / "dataset") / pattern.format(language=cell.language)

    def english_split(self, cell: Cell) -> Path | None:
        """The English original of a PolyRefuse cell in `dataset/splits`; the sampled file wins over the full one."""
        if self.dataset is None or cell.prompt_set != POLYREFUSE:
            return None
        folder = self.dataset / "splits"
        sampled = sorted(folder.glob(f"{cell.harm}_{cell.split}_*_sampled.json"))
        whole = folder / f"{cell.harm}_{cell.split}.json"
        return sampled[0] if sampled else whole if whole.exists() else None

    def back_translated(self) -> dict[str, Path]:
        """Back-translation files of the harmful test split, by the language code in their names."""
        if self.translations is None:
            return {}
        stem = "harmful_test_back_translated_"
        found = sorted((self.translations / stem.rstrip("_")).glob(f"{stem}*.json"))
        return {path.stem.removeprefix(stem): path for path in found}

    def languages(self, prompt_set: str = POLYREFUSE) -> tuple[str, ...]:
        """Codes of all languages that a set has files for, sorted."""
        if prompt_set != POLYREFUSE:
            return tuple(
                sorted({code for pattern in FURTHER_SETS[prompt_set].values() for code in self._codes(pattern)})
            )
        codes: set[str] = set()
        if self.translations is not None:
            codes.update(match[3] for name in _names(self.translations) if (match := _CELL_FILE.fullmatch(name)))
        if self.dataset is not None and any((self.dataset / "splits").glob("harm*_*.json")):
            codes.add(ENGLISH)
        return tuple(sorted(codes))

    def _codes(self, pattern: str) -> list[str]:
        if self.dataset is None:
            return []
        path = self.dataset / pattern
        if "{language}" not in pattern:
            return [ENGLISH] if path.exists() else []
        before, after = path.name.split("{language}")
        return [found.name[len(before) : -len(after)] for found in path.parent.glob(f"{before}*{after}")]


def find_layout(root: str | os.PathLike[str]) -> Layout:
    """Find the prompt files under a folder."""
    folder = Path(root)
    try:
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "no such folder"
            raise DataError(f"{str(folder)!r}: {what}; {HOW_TO_GET}")
        found = _layout_of(folder, folder)
        if found is not None:
            return found
        below = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
        layouts = {child.name: layout for child in below if (layout := _layout_of(child, folder)) is not None}
    except (OSError, ValueError) as error:
        raise DataError(f"{str(folder)!r}: cannot be read ({error}); check the path and its permissions") from None
    if not layouts:
        raise DataError(f"{str(folder)!r}: no PolyRefuse files in it; {HOW_TO_GET}")
    if len(layouts) > 1:
        raise DataError(f"{str(folder)!r}: several prompt sources in it ({', '.join(layouts)}); name one of them")
    return next(iter(layouts.values()))


def parquet_languages(folder: Path) -> tuple[str, ...]:
    """Languages of a built data set's `data` folder, sorted."""
    return tuple(sorted(child.name for child in folder.iterdir() if child.is_dir() and any(child.glob("*.parquet"))))


def _layout_of(folder: Path, root: Path) -> Layout | None:
    if (folder / TRANSLATIONS).is_dir():
        return Layout(root, folder / TRANSLATIONS, _if_folder(folder / "dataset"))
    if any(_CELL_FILE.fullmatch(name) for name in _names(folder)):
        return Layout(root, folder, _if_folder(folder / "dataset") or _if_folder(folder.parent / "dataset"))
    if (folder / "dataset" / "splits").is_dir():
        return Layout(root, None, folder / "dataset")
    if (folder / "data").is_dir() and parquet_languages(folder / "data"):
        return Layout(root, None, None, folder / "data")
    return None


def _if_folder(path: Path) -> Path | None:
    return path if path.is_dir() else None


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]
