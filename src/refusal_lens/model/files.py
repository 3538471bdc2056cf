"""What a model folder must hold before anything of it is loaded: a readable configuration and complete safetensors.

Weights are only ever read from safetensors: pickled weights can run code when read, and are refused by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open

from refusal_lens.errors import ModelError
from refusal_lens.model.source import first_line

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


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
    read_json(config)
    index = folder / INDEX
    if index.is_file():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError(f"{index} has no weight_map; download the model again")
        names = sorted({str(name) for name in cast("dict[str, object]", shards).values()})
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            count = f"{len(missing)} of {len(names)} weight files ({', '.join(missing[:3])})"
            raise ModelError(f"{folder} lacks {count}; download the model again")
    elif (folder / SINGLE).is_file():
        names = [SINGLE]
    else:
        pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
        if pickled:
            raise ModelError(
                f"{folder} has only pickled weights ({pickled[0]}), which can run code when read: convert to safetensors first"
            )
        raise ModelError(f"{folder} has no weights ({SINGLE} or {INDEX})")
    for name in names:
        if Path(name).name != name:
            raise ModelError(f"{index} names a weight file outside the model's folder: {name}")
        try:
            with safe_open(str(folder / name), framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{folder / name} is damaged or cut off ({first_line(error)}); download it again"
            ) from error


def read_json(file: Path) -> dict[str, object]:
    """Read a JSON object of a model folder; ModelError naming the file where it is broken."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{file} is not readable as JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no JSON object")
    return cast("dict[str, object]", content)
