"""Candidate directions: mean(harmful) - mean(harmless) at every post-instruction position and layer, and their files.

On disk: `candidates.safetensors` (tensor `candidates`, float32 [pos, layer, d_model]; tensor `harmless_projection`,
float32 [pos, layer]; tensor `harmless_mean`, float32 [pos, layer, d_model]) and `candidates.json` (schema version,
positions, counts, model digest). It does not extract them: see `extraction`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from refusal_lens.core.files import write_atomic
from refusal_lens.core.json_files import read_object
from refusal_lens.directions.direction import Direction, read_tensor
from refusal_lens.errors import DataError, UserError

SCHEMA_VERSION = 1
TENSOR_FILE = "candidates.safetensors"
FACTS_FILE = "candidates.json"


@dataclass(frozen=True, repr=False)
class Candidates:
    """Mean differences at every (position, layer).

    Attributes:
        tensor: float32 [pos, layer, d_model], not normalised; row p belongs to positions[p].
        positions: Negative offsets from the end of the rendered prompt, ascending (-5 first).
        n_harmful: Harmful prompts averaged over.
        n_harmless: Harmless prompts averaged over.
        model_digest: Digest of the model; None for imported candidates.
        harmless_projection: float32 [pos, layer], mean projection of harmless activations on the unit candidate; None
            where unknown. The affine ablation needs it.
        harmless_mean: float32 [pos, layer, d_model], mean harmless activations; None where unknown. It gives directions
            made from these candidates (pools, nulls) their reference.
        inexact: Which checks the model failed, where that was accepted; None where it passed or was not checked.
    """

    tensor: Float[Tensor, "pos layer d_model"]
    positions: tuple[int, ...]
    n_harmful: int
    n_harmless: int
    model_digest: str | None = None
    harmless_projection: Float[Tensor, "pos layer"] | None = None
    harmless_mean: Float[Tensor, "pos layer d_model"] | None = None
    inexact: str | None = None

    def __repr__(self) -> str:
        """The candidates in one line, without their numbers."""
        n = f"{self.n_harmful} harmful and {self.n_harmless} harmless prompts"
        return f"Candidates(positions {self.positions}, {self.n_layers} layers, from {n})"

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.tensor.shape[1]

    def sites(self) -> list[tuple[int, int]]:
        """All (position, layer) pairs in sweep order: position outer (-5 first), layer inner."""
        return [(position, layer) for position in self.positions for layer in range(self.n_layers)]

    def vector(self, position: int, layer: int) -> Float[Tensor, " d_model"]:
        """The candidate at a site.

        Args:
            position: One of `positions`.
            layer: 0 .. n_layers - 1.

        Returns:
            float32 [d_model], raw.

        Raises:
            UserError: When there is no such site.
        """
        if position not in self.positions or not 0 <= layer < self.n_layers:
            raise UserError(
                f"no candidate at position {position}, layer {layer}: positions are {list(self.positions)}, "
                f"layers 0 to {self.n_layers - 1}"
            )
        return self.tensor[self.positions.index(position), layer]

    def reference(self, vector: Float[Tensor, " d_model"], *, position: int, layer: int) -> float | None:
        """Projection of the mean harmless activation on any direction at a site: what the affine ablation sets it to.

        Args:
            vector: float32 or float64 [d_model], not zero, of any length.
            position: One of `positions`.
            layer: 0 .. n_layers - 1.

        Returns:
            The projection on the unit direction; None where the harmless mean is unknown.
        """
        every = self.references(vector, position=position)
        return None if every is None else every[layer]

    def references(self, vector: Float[Tensor, " d_model"], *, position: int) -> tuple[float, ...] | None:
        """The same of every layer."""
        if self.harmless_mean is None:
            return None
        means = self.harmless_mean[self.positions.index(position)].double()
        return tuple((means @ vector.double() / vector.double().norm()).tolist())

    def direction(self, *, position: int, layer: int, source: str) -> Direction:
        """The candidate at a site as a `Direction`.

        Args:
            position: One of `positions`.
            layer: 0 .. n_layers - 1.
            source: Language (or other name) it was extracted from.

        Returns:
            The raw candidate with its place and origin.
        """
        vector = self.vector(position, layer).clone()
        known = self.harmless_projection
        projection = None if known is None else float(known[self.positions.index(position), layer])
        by_layer = self.references(vector, position=position) if float(vector.norm()) > 0 else None
        return Direction(vector, position, layer, source, self.model_digest, projection, by_layer)

    def save(self, folder: Path) -> None:
        """Write both files into a folder (created when missing), each atomically."""
        tensors = {"candidates": self.tensor.detach().to("cpu", torch.float32).contiguous()}
        if self.harmless_projection is not None:
            tensors["harmless_projection"] = self.harmless_projection.detach().to("cpu", torch.float32).contiguous()
        if self.harmless_mean is not None:
            tensors["harmless_mean"] = self.harmless_mean.detach().to("cpu", torch.float32).contiguous()
        facts = {
            "schema_version": SCHEMA_VERSION,
            "positions": list(self.positions),
            "n_harmful": self.n_harmful,
            "n_harmless": self.n_harmless,
            "n_layers": self.n_layers,
            "d_model": self.tensor.shape[2],
            "model_digest": self.model_digest,
            **({} if self.inexact is None else {"inexact": self.inexact}),
        }
        write_atomic(folder / TENSOR_FILE, save(tensors))
        write_atomic(folder / FACTS_FILE, (json.dumps(facts, indent=1) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Candidates:
        """Read candidates written by `save`.

        Args:
            folder: Folder with both files.

        Returns:
            The candidates, on the CPU in float32.

        Raises:
            DataError: When a file is missing, damaged, of another schema, or the two do not fit together.
        """
        try:
            tensors = load_file(folder / TENSOR_FILE)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{folder}: no readable candidates here ({error}); `refusal-lens extract` writes them"
            ) from None
        facts = cast("dict[str, Any]", read_object(folder / FACTS_FILE, advice="`refusal-lens extract` writes it"))
        if facts.get("schema_version") != SCHEMA_VERSION or "candidates" not in tensors:
            raise DataError(f"{folder}: not candidates of schema {SCHEMA_VERSION}; extract them again")
        if not tensors["candidates"].is_floating_point():
            raise DataError(f"{folder}: the candidates are whole numbers, not fractions; extract them again")
        tensor = tensors["candidates"].float()
        try:
            positions = tuple(int(value) for value in facts["positions"])
            counts = int(facts["n_harmful"]), int(facts["n_harmless"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{folder}: {FACTS_FILE} lacks a field or holds a wrong one ({error}); extract again"
            ) from None
        if any(value >= 0 for value in positions) or len(set(positions)) < len(positions):
            raise DataError(f"{folder}: positions are different negative numbers, found {list(positions)}")
        if tensor.ndim != 3 or tensor.shape[0] != len(positions):
            raise DataError(
                f"{folder}: {len(positions)} positions named, but the tensor has shape {tuple(tensor.shape)}"
            )
        return cls(
            tensor=tensor,
            positions=positions,
            n_harmful=counts[0],
            n_harmless=counts[1],
            model_digest=None if facts.get("model_digest") is None else str(facts["model_digest"]),
            harmless_projection=tensors.get("harmless_projection"),
            harmless_mean=tensors.get("harmless_mean"),
            inexact=None if facts.get("inexact") is None else str(facts["inexact"]),
        )


def import_candidates(path: Path, *, positions: Sequence[int] | None = None) -> Candidates:
    """Read the published code's `mean_diffs.pt` (or a safetensors copy): [pos, layer, d_model], last position last.

    Args:
        path: The file; a `.pt` is read with weights_only, so no code in it can run.
        positions: Its positions; None for the last ones (-n_pos .. -1), the published layout.

    Returns:
        Candidates whose model and prompt counts are unknown (counts 0).

    Raises:
        DataError: When the file holds anything but one finite tensor of three dimensions.
    """
    tensor = read_tensor(path)
    if tensor.ndim != 3 or not torch.isfinite(tensor).all():
        raise DataError(
            f"{path}: expected one finite tensor [position, layer, d_model], found shape {tuple(tensor.shape)}"
        )
    known = tuple(positions) if positions is not None else tuple(range(-tensor.shape[0], 0))
    if len(known) != tensor.shape[0]:
        raise DataError(f"{path}: {len(known)} positions given, the tensor has {tensor.shape[0]}")
    return Candidates(tensor.float(), known, 0, 0)
