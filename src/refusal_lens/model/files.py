"""What a model folder must hold before anything of it is loaded: a readable configuration and complete safetensors.

Only headers of the weights are read here: a file that is cut off, a tensor the index promises and its file lacks, whole
numbers where a model computes with fractions. Weights are only ever read from safetensors: pickled weights can run code
when read, and are refused by name.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open

from refusal_lens.core.json_files import read_object
from refusal_lens.errors import ModelError
from refusal_lens.model.kinds import ADAPTER, INDEX, SINGLE, why_no_model
from refusal_lens.model.source import ADAPTER_WEIGHTS, Source, first_line

OPTIONAL = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
"""Read by transformers where they are there; a broken one is passed over in silence or fails far from its cause."""

_WHOLE = frozenset({"BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})


def check_files(source: Source) -> None:
    """Check that a model's files hold a readable configuration and complete weights, and that what reads them is installed.

    Args:
        source: The model's files.

    Raises:
        ModelError: Something is missing or broken; named.
    """
    if source.gguf is not None:
        _check_gguf(source.folder / source.gguf)
        return
    if source.adapter is not None:
        _check_adapter(source.adapter)
    folder = source.folder
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(why_no_model(folder))
    settings = read_json(config)
    quantized = settings.get("quantization_config") is not None
    for name in OPTIONAL:
        if (folder / name).is_file():
            read_json(folder / name)
    if not quantized and isinstance(settings.get("quantization"), dict):
        raise ModelError(
            f"{folder} is quantised by MLX (config.json: quantization), which is not read here: use the model it was made of"
        )
    for name, promised in _weight_files(folder).items():
        _check_weights(folder / name, promised, quantized=quantized)


def _check_adapter(adapter: Path) -> None:
    settings = read_json(adapter / ADAPTER)
    kind = settings.get("peft_type")
    if importlib.util.find_spec("peft") is None:
        raise ModelError(
            f"{adapter} holds an adapter ({ADAPTER}: {kind}), which needs the package peft: pip install "
            f"'refusal-lens[adapters]', or merge the adapter into its base, or move {ADAPTER} away to audit the base alone"
        )
    if (adapter / ADAPTER_WEIGHTS).is_file():
        _check_weights(adapter / ADAPTER_WEIGHTS, set(), quantized=False)
        return
    pickled = (adapter / "adapter_model.bin").is_file()
    why = "only pickled adapter weights, which can run code when read: convert to" if pickled else "no"
    raise ModelError(f"{adapter} holds an adapter ({ADAPTER}: {kind}) but {why} {ADAPTER_WEIGHTS}")


def _check_gguf(file: Path) -> None:
    if re.search(r"-\d{5}-of-\d{5}\.gguf$", file.name):
        raise ModelError(f"{file} is one part of a split GGUF file: join the parts first (llama-gguf-split --merge)")
    try:
        with file.open("rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {first_line(error)}") from error
    if magic != b"GGUF":
        raise ModelError(f"{file} is no GGUF file (its first bytes are {magic!r}); download it again")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"{file} needs the package gguf: pip install 'refusal-lens[gguf]', or use the safetensors weights"
        )
    from gguf import GGUFReader

    try:
        fields = GGUFReader(str(file)).fields
    except Exception as error:  # a damaged file can raise anything in a reader of bytes
        raise ModelError(f"{file} is damaged or cut off ({first_line(error)}); download it again") from error
    if "general.architecture" not in fields:
        raise ModelError(f"{file} names no architecture (general.architecture): it is damaged, or no language model")


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
        others = sorted(file.name for file in folder.glob("*.safetensors"))
        beside = f"; {others[0]} is not named as transformers names weights" if others else ""
        raise ModelError(f"{folder} has no weights ({SINGLE} or {INDEX}){beside}")
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
            packed = next((name for name in sorted(names) if name.endswith((".qweight", ".qzeros"))), None)
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
    if packed is not None and not quantized:
        old = (
            " (quantize_config.json beside it is the old layout)"
            if (file.parent / "quantize_config.json").is_file()
            else ""
        )
        raise ModelError(
            f"{file}: {packed} is packed by GPTQ or AWQ, and config.json has no quantization_config{old}: "
            "save it again with a current version, or use the model it was made of"
        )
    if whole is not None and not quantized:
        raise ModelError(
            f"{file}: {whole} holds whole numbers, not fractions, and config.json names no quantization; "
            "save the model as float32, float16 or bfloat16"
        )


def read_json(file: Path) -> dict[str, object]:
    """Read a JSON object of a model folder; ModelError naming the file where it is broken."""
    return cast("dict[str, object]", read_object(file, error=ModelError, advice="download the model again"))
