"""Where the prompt files lie: the paper's repository, its `PolyRefuse` folder, a folder around either, or Parquet.

    ROOT/PolyRefuse/{harm}_{split}_translated_{language}.json       translations, and English test prompts
    ROOT/dataset/splits/{harm}_{split}[_N_sampled].json             English train and val prompts
    ROOT/dataset/splits_multi, ROOT/dataset/processed               further prompt sets
    ROOT/data/{language}/{split}-00000-of-00001.parquet             what `refusal-lens data build` writes

Only looks; opens no file.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.types import Harm, Split

POLYREFUSE = "PolyRefuse"
LANGUAGE_CODE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
HOW_TO_GET = "get the files with `refusal-lens data download --dest DIR`, or name the folder that holds PolyRefuse/"

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

    def translated(self, *, language: str, split: Split, harm: Harm) -> Path:
        """Path of a cell's translation file, whether it exists or not."""
        return (self.translations or self.root / POLYREFUSE) / f"{harm}_{split}_translated_{language}.json"

    def english_split(self, *, split: Split, harm: Harm) -> Path | None:
        """The English original of a cell under `dataset/splits`; the sampled file wins over the full one."""
        if self.dataset is None:
            return None
        folder = self.dataset / "splits"
        sampled = sorted(folder.glob(f"{harm}_{split}_*_sampled.json"))
        whole = folder / f"{harm}_{split}.json"
        return sampled[0] if sampled else whole if whole.exists() else None

    def back_translated(self, *, language: str, split: Split, harm: Harm) -> Path:
        """Path of a cell's back-translation file, whether it exists or not."""
        stem = f"{harm}_{split}_back_translated"
        return (self.translations or self.root / POLYREFUSE) / stem / f"{stem}_{language}.json"

    def languages(self) -> tuple[str, ...]:
        """Codes of all languages that have at least one file, sorted."""
        codes: set[str] = set()
        if self.translations is not None:
            codes.update(match[3] for name in _names(self.translations) if (match := _CELL_FILE.fullmatch(name)))
        if self.dataset is not None and (self.dataset / "splits").is_dir():
            codes.add("en")
        if self.parquet is not None:
            codes.update(_parquet_languages(self.parquet))
        return tuple(sorted(codes))


def find_layout(root: str | os.PathLike[str]) -> Layout:
    """Find the prompt files under a folder.

    Args:
        root: The repository-like folder, its `PolyRefuse` folder, a folder one level above either, or a built data set.

    Returns:
        The folders found.

    Raises:
        DataError: When the folder is absent or unreadable, holds no prompt files, or holds several sources.
    """
    folder = Path(root)
    try:
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "no such folder"
            raise DataError(f"{str(folder)!r}: {what}; {HOW_TO_GET}")
        found = _layout_of(folder, folder)
        if found is not None:
            return found
        below = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
        layouts = [layout for child in below if (layout := _layout_of(child, folder)) is not None]
    except OSError as error:
        raise DataError(f"{str(folder)!r}: cannot be read ({error.strerror or error}); check its permissions") from None
    if not layouts:
        raise DataError(f"{str(folder)!r}: no PolyRefuse files in it; {HOW_TO_GET}")
    if len(layouts) > 1:
        names = ", ".join(child.name for child in below if _layout_of(child, folder) is not None)
        raise DataError(f"{str(folder)!r}: several prompt sources in it ({names}); name one of them")
    return layouts[0]


def _layout_of(folder: Path, root: Path) -> Layout | None:
    if (folder / POLYREFUSE).is_dir():
        return Layout(root, folder / POLYREFUSE, _if_folder(folder / "dataset"))
    if any(_CELL_FILE.fullmatch(name) for name in _names(folder)):
        return Layout(root, folder, _if_folder(folder / "dataset") or _if_folder(folder.parent / "dataset"))
    if (folder / "dataset" / "splits").is_dir():
        return Layout(root, None, folder / "dataset")
    if (folder / "data").is_dir() and _parquet_languages(folder / "data"):
        return Layout(root, None, None, folder / "data")
    return None


def _if_folder(path: Path) -> Path | None:
    return path if path.is_dir() else None


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def _parquet_languages(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and any(child.glob("*.parquet")))
