"""A run's direction in the forms of other engines; `directions.foreign` reads each of them back.

Layers. Ours is the residual stream *entering* block L. Engines that add to a block's *output* therefore add at block L - 1:
llama.cpp's tensor `direction.N` (N = 1 is its first), lm-evaluation-harness's hook point `layers.N`, the keys of
steering-vectors and repeng. A direction at layer 0 is read from the embedding: only `pt` can hold it, and llama.cpp not layer 1.

Every file adds the direction, raw as extracted, which makes a model refuse more. None removes anything from a model.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from refusal_lens.directions import Direction
from refusal_lens.errors import DataError, UserError

ARCHITECTURE = "controlvector"
OWN = "refusal_lens"


def to_pt(direction: Direction) -> dict[str, bytes]:
    """A plain tensor and, beside it, its place as the published code writes it (`pos`, `layer`) with what else is known."""
    facts = {"pos": direction.position, "layer": direction.layer, **_facts(direction)}
    return {
        "": _saved(direction.vector.float().cpu()),
        "_metadata.json": (json.dumps(facts, indent=1) + "\n").encode(),
    }


def to_lm_eval(direction: Direction, *, coefficient: float, blocks: str) -> dict[str, bytes]:
    """The steering file of lm-evaluation-harness: `--model steered --model_args pretrained=MODEL,steer_path=FILE.pt`.

    Args:
        direction: The direction.
        coefficient: Multiple that is added.
        blocks: Name of the list of blocks inside the base model.

    Returns:
        The file's bytes.
    """
    point: Mapping[str, object] = {
        "action": "add",
        "steering_coefficient": float(coefficient),
        "steering_vector": direction.vector.float().cpu(),
        "bias": None,
    }
    return {"": _saved({f"{blocks}.{_output_of(direction, 'lm-eval')}": point})}


def to_steering_vectors(direction: Direction) -> dict[str, bytes]:
    """The arguments of `SteeringVector` of steering-vectors: `SteeringVector(**torch.load(FILE, weights_only=True))`."""
    block = _output_of(direction, "steering-vectors")
    fields = {"layer_activations": {block: direction.vector.float().cpu()}, "layer_type": "decoder_block"}
    return {"": _saved(fields)}


def to_gguf(direction: Direction, *, model_hint: str) -> dict[str, bytes]:
    """A control vector of llama.cpp (`--control-vector FILE`); repeng's `ControlVector.import_gguf` reads it too.

    Args:
        direction: The direction.
        model_hint: What llama.cpp calls the model's architecture, for the reader's information.

    Returns:
        The file's bytes.
    """
    try:
        import gguf
    except ImportError:
        raise UserError("--format gguf needs the package gguf: pip install 'refusal-lens[gguf]'") from None
    block = _output_of(direction, "gguf", least=1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "vector.gguf"
        writer = gguf.GGUFWriter(place, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", 1)
        writer.add_string(f"{OWN}.direction", json.dumps({"position": direction.position, **_facts(direction)}))
        writer.add_tensor(f"direction.{block}", direction.vector.float().cpu().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return {"": place.read_bytes()}


def _output_of(direction: Direction, form: str, *, least: int = 0) -> int:
    block = direction.layer - 1
    if block < least:
        raise DataError(
            f"the direction {direction.source!r} is read at layer {direction.layer}, and {form} adds behind block {least} at"
            " the earliest; --format pt holds any layer"
        )
    return block


def _facts(direction: Direction) -> dict[str, object]:
    by_layer = direction.harmless_projections
    return {
        "source": direction.source,
        "model_digest": direction.model_digest,
        "harmless_projection": direction.harmless_projection,
        "harmless_projections": None if by_layer is None else list(by_layer),
    }


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
