"""A direction: one raw vector of the residual stream, where it comes from, and how it is kept on disk.

On disk it is one safetensors file: tensor `direction` (float32 [d_model]) and a JSON text in the file's metadata with
schema version, position, layer, source and model digest. Nothing is pickled; a foreign `.pt` is read with weights_only.
"""

from __future__ import annotations

import json
import math
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from refusal_lens.core.files import write_atomic
from refusal_lens.errors import DataError
from refusal_lens.interventions import Ablation, Addition, reference_of
from refusal_lens.types import JsonValue

SCHEMA_VERSION = 1
_TENSOR = "direction"
_METADATA = "refusal_lens"
_UNREADABLE = (
    OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, struct.error,
    LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError,
)  # fmt: skip
"""What torch's reader raises on files that are damaged or no pickle at all: found by feeding it random bytes."""


@dataclass(frozen=True, repr=False)
class Direction:
    """A direction of the residual stream, raw as extracted (its norm is that of the mean difference).

    Attributes:
        vector: float32 [d_model], not normalised.
        position: Token position it was read at (negative offset).
        layer: Layer it was read at; addition puts it back there.
        source: Language it was extracted from, or the name of a null ("random-0").
        model_digest: Digest of the model it belongs to; None for an imported vector.
        harmless_projection: Mean projection of harmless train activations on the unit direction at its site, the
            reference of the affine ablation in its own layer; None where unknown.
        harmless_projections: The same of the residual stream entering every block, at its position; None where unknown.
    """

    vector: Float[Tensor, " d_model"]
    position: int
    layer: int
    source: str
    model_digest: str | None = None
    harmless_projection: float | None = None
    harmless_projections: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        """The direction in one line, without its numbers."""
        norm = float(self.vector.norm())
        return f"Direction({self.source!r}, position {self.position}, layer {self.layer}, norm {norm:.3g})"

    def ablation(self, *, affine: bool = False, variant: Literal["exact", "published"] = "exact") -> Ablation:
        """The intervention that takes this direction out of the residual stream.

        Args:
            affine: Set the projection to the harmless mean of each layer instead of zero.
            variant: "published" leaks in post-norm models and is for comparison only.

        Returns:
            The ablation, for `intervening`, `generate` and `record`.

        Raises:
            DataError: Affine, and the harmless mean of this direction is not known.

        Example:
            with rl.intervening(model, [direction.ablation()]): ...
        """
        return Ablation(self.vector, reference=reference_of(self) if affine else None, variant=variant)

    def addition(self, *, coefficient: float = 1.0) -> Addition:
        """The intervention that adds this direction where it was read.

        Args:
            coefficient: Multiple of the direction, raw as extracted.

        Returns:
            The addition, at this direction's layer.
        """
        return Addition(self.vector, layer=self.layer, coefficient=coefficient)

    def save(self, path: Path) -> None:
        """Write the direction to one safetensors file, atomically."""
        facts = {
            "schema_version": SCHEMA_VERSION,
            "position": self.position,
            "layer": self.layer,
            "source": self.source,
            "model_digest": self.model_digest,
            "harmless_projection": self.harmless_projection,
            "harmless_projections": None if self.harmless_projections is None else list(self.harmless_projections),
            "norm": float(self.vector.double().norm()),  # for readers without torch; the vector decides
        }
        tensor = self.vector.detach().to("cpu", torch.float32).contiguous()
        write_atomic(path, save({_TENSOR: tensor}, metadata={_METADATA: json.dumps(facts)}))

    @classmethod
    def load(cls, path: Path) -> Direction:
        """Read a direction written by `save`.

        Args:
            path: The safetensors file.

        Returns:
            The direction, on the CPU in float32.

        Raises:
            DataError: When the file is missing, damaged, or not a direction of a known schema.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                vector = file.get_tensor(_TENSOR) if _TENSOR in file.keys() else None  # noqa: SIM118 (not a dict)
            facts = json.loads(metadata.get(_METADATA, "null"))
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            raise DataError(f"{path}: not a readable direction file ({error})") from None
        if vector is None or not isinstance(facts, dict) or facts.get("schema_version") != SCHEMA_VERSION:
            raise DataError(
                f"{path}: not a direction of schema {SCHEMA_VERSION}; read foreign vectors with import_direction"
            )
        check_vector(vector, path)
        position, layer = site_of(facts, str(path), position="position")
        digest = facts.get("model_digest")
        own, by_layer = references_of(facts, str(path))
        if not isinstance(facts.get("source"), str):
            raise DataError(f"{path}: its description lacks a source")
        return cls(
            vector=vector.float(),
            position=position,
            layer=layer,
            source=facts["source"],
            model_digest=None if digest is None else str(digest),
            harmless_projection=own,
            harmless_projections=by_layer,
        )


def random_direction(like: Direction, seed: int) -> Direction:
    """A null: Gaussian direction with the norm, position and layer of a real one.

    Args:
        like: The direction whose place it takes.
        seed: Seed of the draw; the same seed gives the same vector on every machine.

    Returns:
        Direction named "random-SEED".
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(like.vector.shape[0], generator=generator, dtype=torch.float64)
    scaled = drawn * (like.vector.double().norm().item() / drawn.norm().item())
    return Direction(scaled.float(), like.position, like.layer, f"random-{seed}", like.model_digest)


def import_direction(path: Path, *, position: int, layer: int, source: str) -> Direction:
    """Read somebody else's direction: a `.pt` tensor (as the published code writes) or a safetensors file with one tensor.

    Args:
        path: The file; `.pt` and `.pth` are read with weights_only, so no code in it can run.
        position: Token position it was read at.
        layer: Layer it was read at.
        source: Name to give it.

    Returns:
        The direction as float32; its model is unknown.

    Raises:
        DataError: When the file holds anything but one finite vector.
    """
    vector = read_tensor(path)
    check_vector(vector, path)
    return Direction(vector.float(), position, layer, source)


def site_of(facts: Mapping[str, JsonValue], where: str, *, position: str = "pos") -> tuple[int, int]:
    """Where a direction was read, as a JSON object says it.

    Args:
        facts: The object; `direction_metadata.json` of the published code has the keys `pos` and `layer`.
        where: Its origin, for messages.
        position: Key of the position.

    Returns:
        Position (negative) and layer (0 or more).

    Raises:
        DataError: One of them is missing or no such number.
    """
    return _whole(facts, position, where, negative=True), _whole(facts, "layer", where, negative=False)


def references_of(facts: Mapping[str, JsonValue], where: str) -> tuple[float | None, tuple[float, ...] | None]:
    """What an affine ablation sets the projection to, as a JSON object says it.

    Args:
        facts: The object; keys `harmless_projection` and `harmless_projections`.
        where: Its origin, for messages.

    Returns:
        The harmless mean of the direction's own layer, and those of all layers; None where it does not say.

    Raises:
        DataError: What stands there is no number.
    """
    own, listed = facts.get("harmless_projection"), facts.get("harmless_projections")
    one, every = (None if own is None else _numbers([own])), (None if listed is None else _numbers(listed))
    for value, numbers in ((own, one), (listed, every)):
        if value is not None and numbers is None:
            raise DataError(f"{where}: its harmless projection is {value!r}, no number")
    return None if one is None else one[0], every


def _numbers(value: JsonValue) -> tuple[float, ...] | None:
    if not isinstance(value, list) or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in value):
        return None
    return tuple(map(float, cast("list[float]", value)))


def read_tensor(path: Path) -> Tensor:
    """The one tensor of a foreign file, without running anything it holds.

    Args:
        path: `.pt`, `.pth`, `.bin` or `.safetensors`.

    Returns:
        The tensor, on the CPU.

    Raises:
        DataError: When the file is unreadable or holds anything but one tensor.
    """
    found = read_foreign(path)
    if isinstance(found, dict) and len(found) == 1:
        found = next(iter(found.values()))
    if not isinstance(found, Tensor):
        raise DataError(f"{path}: holds a {type(found).__name__}, expected exactly one tensor")
    return found


def read_foreign(path: Path) -> object:
    """What a foreign file of tensors holds, without running anything in it; DataError where it cannot be read so."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return cast("object", torch.load(path, map_location="cpu", weights_only=True))
    except _UNREADABLE as error:
        why = (str(error).splitlines() or [""])[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own message advises to run what the file names
            why = "no tensor file, or one whose reading would run code"
        raise DataError(f"{path}: cannot be read as a plain tensor ({why})") from None


def check_vector(vector: Tensor, path: Path) -> None:
    """A direction is one finite, non-zero vector; DataError for anything else."""
    if vector.ndim != 1 or not torch.isfinite(vector).all() or vector.float().norm() == 0:
        raise DataError(f"{path}: expected one finite, non-zero vector [d_model], found shape {tuple(vector.shape)}")


def _whole(facts: Mapping[str, JsonValue], key: str, where: str, *, negative: bool) -> int:
    value = facts.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or (value < 0) != negative:
        expected = "a whole number below 0" if negative else "a whole number, 0 or more"
        raise DataError(f"{where}: {key!r} is {value!r}, expected {expected}")
    return value
