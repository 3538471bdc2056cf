"""What a model folder must hold before anything of it is loaded: a readable configuration and complete safetensors.

Only headers of the weights are read here: a file that is cut off, a tensor the index promises and its file lacks, whole
numbers where a model computes with fractions. Weights are only ever read from safetensors: pickled weights can run code
when read, and are refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open

from refusal_lens.core.json_files import read_object
from refusal_lens.errors import ModelError
from refusal_lens.model.source import first_line

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
OPTIONAL = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
"""Read by transformers where they are there; a broken one is passed over in silence or fails far from its cause."""

_WHOLE = frozenset({"BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})


def check_files(folder: Path) -> None:
    """Check that a model folder holds a readable configuration and complete safetensors weights.

    Args:
        folder: The model's folder.

    Raises:
        ModelError: Something is missing or broken; named.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{folder} has no config.json; name the folder that holds the model itself")
    quantized = read_json(config).get("quantization_config") is not None
    for name in OPTIONAL:
        if (folder / name).is_file():
            read_json(folder / name)
    for name, promised in _weight_files(folder).items():
        _check_weights(folder / name, promised, quantized=quantized)


def _weight_files(folder: Path) -> dict[str, set[str]]:
    """The weight files, each with the tensors that an index promises in it."""
    index = folder / INDEX
    files: dict[str, set[str]] = {SINGLE: set()} if (folder / SINGLE).is_file() else {}
    if not index.is_file():
        if files:
            return files
        pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
        if pickled:
            raise ModelError(
                f"{folder} has only pickled weights ({pickled[0]}), which can run code when read: convert to safetensors first"
            )
        raise ModelError(f"{folder} has no weights ({SINGLE} or {INDEX})")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{index} has no weight_map; download the model again")
    for tensor, name in cast("dict[str, object]", shards).items():
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(f"{index} names a weight file outside the model's folder: {name}")
        files.setdefault(name, set()).add(tensor)
    missing = sorted(name for name in files if not (folder / name).is_file())
    if missing:
        count = f"{len(missing)} of {len(files)} weight files ({', '.join(missing[:3])})"
        raise ModelError(f"{folder} lacks {count}; download the model again")
    return files


def _check_weights(file: Path, promised: set[str], *, quantized: bool) -> None:
    try:
        with safe_open(str(file), framework="pt") as opened:
            names = set(opened.keys())
            kinds = {name: opened.get_slice(name) for name in sorted(names) if name.endswith(".weight")}
            # Masks and position tables may be whole numbers; a matrix that a layer multiplies with may not.
            whole = next(
                (name for name, kind in kinds.items() if kind.get_dtype() in _WHOLE and len(kind.get_shape()) > 1), None
            )
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is damaged or cut off ({first_line(error)}); download it again") from error
    lacking = sorted(promised - names)
    if lacking:
        raise ModelError(f"{file} lacks {len(lacking)} weights of its index (first: {lacking[0]}); download it again")
    if whole is not None and not quantized:
        raise ModelError(
            f"{file}: {whole} holds whole numbers, not fractions, and config.json names no quantization; "
            "save the model as float32, float16 or bfloat16"
        )


def read_json(file: Path) -> dict[str, object]:
    """Read a JSON object of a model folder; ModelError naming the file where it is broken."""
    return cast("dict[str, object]", read_object(file, error=ModelError, advice="download the model again"))
