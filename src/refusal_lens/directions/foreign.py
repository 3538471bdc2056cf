"""Directions that other engines wrote: llama.cpp and repeng (GGUF), lm-evaluation-harness, steering-vectors, a plain tensor.

Layers. Engines that add to a block's *output* name that block; the residual stream behind block N enters block N + 1, which
is our layer. A file of several layers needs to be told which one is meant. Nothing in a file is run (`weights_only`); a file of
`exports.vectors` comes back exactly as it was, with its position and its model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from refusal_lens.core.json_files import read_object
from refusal_lens.directions.direction import Direction, check_vector, read_foreign, references_of, site_of
from refusal_lens.errors import DataError, UserError
from refusal_lens.types import JsonValue

OWN = "refusal_lens.direction"
TENSOR = re.compile(r"direction\.(\d+)")
HOOK = re.compile(r"\.?(\d+)$")
METADATA = "direction_metadata.json"
LAST_POSITION = -1


@dataclass(frozen=True)
class _Found:
    """Vectors by our layer, where the file says one; None as layer where it does not. What it says of itself."""

    vectors: Mapping[int | None, Tensor]
    facts: Mapping[str, JsonValue]


def import_foreign(
    path: Path,
    *,
    metadata: Path | None = None,
    layer: int | None = None,
    position: int | None = None,
    source: str | None = None,
) -> Direction:
    """Read a direction in any of the forms above.

    Args:
        path: `.gguf`, `.pt`, `.pth`, `.bin` or `.safetensors`.
        metadata: JSON file with position (`pos`) and layer; None for one beside the file, where there is one.
        layer: Our layer; needed where the file has several or says nothing.
        position: Token position; None for what file or metadata say, else the last token.
        source: Name to give it; None for the file's own, else "imported".

    Returns:
        The direction as float32.

    Raises:
        DataError: The file is damaged, holds something else, or does not say its layer.
        UserError: A library that it needs is not installed.

    Example:
        import_foreign(Path("refusal.gguf"), source="en")
    """
    found = _of_gguf(path) if path.suffix == ".gguf" else _of_torch(path)
    beside = metadata or _beside(path, found)
    facts, stated = dict(found.facts), None
    if beside is not None:
        facts |= read_object(beside, advice='--metadata names a JSON file such as {"pos": -1, "layer": 15}')
        position_there, stated = site_of(facts, str(beside))
        facts["position"] = position_there
    vector, at = _one(path, found, stated if layer is None else layer)
    check_vector(vector, path)
    where = facts.get("position", LAST_POSITION) if position is None else position
    where, at = site_of({"pos": where, "layer": at}, str(path))
    named, digest = facts.get("source"), facts.get("model_digest")
    own, by_layer = references_of(facts, str(path))
    return Direction(
        vector.float(),
        where,
        at,
        source or (named if isinstance(named, str) else "imported"),
        digest if isinstance(digest, str) else None,
        own,
        by_layer,
    )


def _one(path: Path, found: _Found, layer: int | None) -> tuple[Tensor, int]:
    """The vector meant, and its layer."""
    known = sorted(name for name in found.vectors if name is not None)
    if not known:
        if layer is None:
            raise DataError(f"{path}: does not say its layer: name it with --layer, or a JSON file with --metadata")
        return next(iter(found.vectors.values())), layer
    if layer is None and len(known) > 1:
        raise DataError(
            f"{path}: has a vector at each of the layers {', '.join(map(str, known))}; name one with --layer"
        )
    at = known[0] if layer is None else layer
    if at not in found.vectors:
        raise DataError(f"{path}: has no vector at layer {at}, only at {', '.join(map(str, known))}")
    return found.vectors[at], at


def _beside(path: Path, found: _Found) -> Path | None:
    """`NAME_metadata.json`, or the published `direction_metadata.json`, beside a file that does not say its layer."""
    if None not in found.vectors:
        return None
    places = (path.with_name(f"{path.stem}_metadata.json"), path.with_name(METADATA))
    return next((place for place in places if place.is_file()), None)


def _of_gguf(path: Path) -> _Found:
    try:
        import gguf
    except ImportError:
        raise UserError(f"{path}: needs the package gguf: pip install 'refusal-lens[gguf]'") from None
    try:
        reader = gguf.GGUFReader(path)
        named = {tensor.name: torch.tensor(tensor.data).flatten() for tensor in reader.tensors}
        field = reader.get_field(OWN)
        said: object = json.loads(str(field.contents())) if field is not None else {}
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as GGUF ({(str(error).splitlines() or [''])[0]})") from None
    vectors = {int(match[1]) + 1: named[name] for name in named if (match := TENSOR.fullmatch(name))}
    if not vectors:
        raise DataError(f"{path}: is no control vector, it has no tensor direction.N")
    return _Found(
        cast("Mapping[int | None, Tensor]", vectors),
        cast("dict[str, JsonValue]", said) if isinstance(said, dict) else {},
    )


def _of_torch(path: Path) -> _Found:
    content = read_foreign(path)
    if isinstance(content, Tensor):
        return _Found({None: content}, {})
    if isinstance(content, Mapping):
        fields = cast("Mapping[object, object]", content)
        layers = fields.get("layer_activations", fields)
        named = cast("Mapping[object, object]", layers) if isinstance(layers, Mapping) else {}
        vectors: dict[int | None, Tensor] = {}
        for name, value in named.items():
            inner = (
                cast("Mapping[object, object]", value).get("steering_vector") if isinstance(value, Mapping) else value
            )
            place = _layer_behind(name)
            if isinstance(inner, Tensor) and place is not None:
                vectors[place] = inner.flatten()
        if vectors:
            return _Found(vectors, {})
        tensors = [value for value in fields.values() if isinstance(value, Tensor)]
        if len(tensors) == 1 and len(fields) == 1:
            return _Found({None: tensors[0]}, {})
    raise DataError(
        f"{path}: holds a {type(content).__name__} that is no tensor, no steering file of lm-evaluation-harness and no"
        " layers of a steering vector"
    )


def _layer_behind(name: object) -> int | None:
    """Our layer behind the block that a key names: 3, "3", or "layers.3" give 4."""
    if isinstance(name, int) and not isinstance(name, bool):
        return name + 1
    match = HOOK.search(name) if isinstance(name, str) else None
    return None if match is None else int(match[1]) + 1
