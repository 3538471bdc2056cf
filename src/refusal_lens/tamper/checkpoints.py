"""Weights of a checkpoint by tensor name, one tensor in memory at a time, from one safetensors file or many shards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusal_lens.core.json_files import read_object
from refusal_lens.errors import ModelError
from refusal_lens.model import locate_source

_INDEX = "model.safetensors.index.json"
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")


@dataclass(frozen=True)
class Checkpoint:
    """Where every tensor of a checkpoint lies.

    Attributes:
        spec: What the user named.
        files: File of each tensor by name.
        shapes: Shape of each tensor by name.
    """

    spec: str
    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]

    def read(self, name: str) -> Tensor:
        """One tensor, as it is stored."""
        try:
            with safe_open(self.files[name], framework="pt") as file:
                return file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{self.files[name]}: cannot be read ({error}); fetch it again") from None


def open_checkpoint(spec: str, *, revision: str | None = None) -> Checkpoint:
    """Look at a checkpoint's files without reading a weight.

    Args:
        spec: Folder, `testbed:NAME` or hub id.
        revision: Branch, tag or commit of a hub model.

    Returns:
        The checkpoint.

    Raises:
        ModelError: There is none, or its weights are not plain safetensors.
    """
    source = locate_source(spec, revision=revision)
    if source.adapter is not None:
        raise ModelError(f"{spec} is an adapter beside or apart from its base: merge it into the base's weights first")
    files = sorted(file for file in source.folder.glob("*.safetensors") if not file.name.startswith("."))
    index = source.folder / _INDEX
    if index.is_file():
        mapped = read_object(index, error=ModelError, advice="fetch it again").get("weight_map")
        named = set(map(str, mapped.values())) if isinstance(mapped, dict) else set[str]()
        missing = sorted(name for name in named if not (source.folder / name).is_file())
        if missing:
            raise ModelError(
                f"{spec}: {len(missing)} shards are missing, the first {missing[0]}: fetch the model again"
            )
        files = [source.folder / name for name in sorted(named)] or files
    if not files:
        raise ModelError(f"{spec} has no safetensors weights in {source.folder}: convert it first")
    places: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict)
                    places[name] = file
                    shapes[name] = tuple(opened.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file}: not a readable safetensors file ({error}); fetch it again") from None
    return Checkpoint(spec, places, shapes)


def layer_of(name: str) -> int | None:
    """Layer that a tensor's name tells; None for embeddings, heads and final norms."""
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None
