"""What a path is that was named as a model and is none, and which models have no single stream from prompt to answer.

Nothing is loaded: file names, first bytes and the configuration tell. Each kind has one message with its true reason.
"""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedConfig

from refusal_lens.errors import ModelError

ADAPTER = "adapter_config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
TABLES = (".parquet", ".csv", ".tsv", ".jsonl", ".arrow", ".xlsx")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".zst")
ELSEWHERE = {
    ".onnx": "an ONNX export",
    ".ggml": "a GGML file (the format before GGUF)",
    ".h5": "a Keras or TensorFlow file",
    ".msgpack": "a Flax file",
    ".tflite": "a TensorFlow Lite file",
    ".engine": "a TensorRT engine",
}
HEADS = {
    "ForSequenceClassification": "a classifier",
    "ForTokenClassification": "a classifier of tokens",
    "ForQuestionAnswering": "a model that marks passages",
    "ForMultipleChoice": "a model that picks one of several texts",
    "ForMaskedLM": "a masked language model, which reads a text from both sides",
    "ForPreTraining": "saved in its pre-training form",
    "ForImageClassification": "a classifier of images",
    "ForCTC": "a speech recogniser",
}


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a configuration and safetensors weights of its own."""
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in (SINGLE, INDEX))


def why_no_model(path: Path) -> str:
    """The reason why a file, or a folder without config.json, cannot be loaded, and what to do.

    Args:
        path: What the user named; it exists.

    Returns:
        One line.
    """
    return _file(path) if path.is_file() else _folder(path)


def _file(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix in TABLES or _starts(file, b"PAR1"):
        return f"{file} is a table, not a model: prompts are given by --prompts, --data, --harmful or --harmless"
    if suffix in ARCHIVES:
        return f"{file} is an archive: unpack it and name the folder that holds config.json and the weights"
    if suffix == ".safetensors":
        return f"{file} is weights alone, without configuration and tokenizer: name the folder that holds config.json beside them"
    if suffix in PICKLED:
        return (
            f"{file} is a file of pickled weights, which can run code when read: convert them to safetensors and name "
            "the folder that holds config.json and the weights"
        )
    if suffix in ELSEWHERE:
        return f"{file} is {ELSEWHERE[suffix]}, whose activations cannot be read: use the safetensors weights it was made of"
    return f"{file} is a file; name the folder that holds config.json and the weights, or a .gguf file"


def _folder(folder: Path) -> str:
    files = sorted(file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    inside = sorted(file.parent.name for name in ("config.json", ADAPTER) for file in folder.glob(f"*/{name}"))
    if (folder / "model_index.json").is_file():
        return f"{folder} is a pipeline of several models (model_index.json), not a chat model"
    if inside:
        return f"{folder} has no config.json but {len(inside)} folders with one: name one of them ({', '.join(inside[:3])})"
    if not files:
        return f"{folder} is an empty folder; name the folder that holds config.json and the weights"
    if "params.json" in files:
        return (
            f"{folder} has no config.json but params.json: weights in their maker's own layout. Convert them to the "
            "Hugging Face layout, or use the variant that is published in it"
        )
    tables = [name for name in files if name.lower().endswith(TABLES)]
    if tables and not any(name.endswith((".safetensors", *PICKLED)) for name in files):
        return f"{folder} is a data set ({tables[0]}), not a model: give prompts by --prompts, --data, --harmful or --harmless"
    other = next((name for name in files if Path(name).suffix.lower() in ELSEWHERE), None)
    if other is not None:
        return f"{folder} has no config.json but {_file(Path(other))}"
    weights = [name for name in files if name.endswith((".safetensors", *PICKLED))]
    if weights:
        return f"{folder} has weights ({weights[0]}) but no config.json: copy the model's configuration and tokenizer into it"
    return f"{folder} has no config.json; name the folder that holds the model itself"


def _starts(file: Path, magic: bytes) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(magic)) == magic
    except OSError:
        return False


def check_kind(spec: str, config: PreTrainedConfig) -> None:
    """Refuse a model whose kind has no stream from the prompt's first token to the answer's last.

    Args:
        spec: What the user named.
        config: Its configuration.

    Raises:
        ModelError: Encoder-decoder, or saved with a head that writes no text.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{spec} is an encoder-decoder ({config.model_type}): its prompt and its answer are read by two stacks of blocks, "
            "and a direction in one says nothing of the other. RefusalLens audits decoder-only models"
        )
    for name in getattr(config, "architectures", None) or ():
        for ending, what in HEADS.items():
            if str(name).endswith(ending):
                raise ModelError(f"{spec} is {what} ({name}), no chat model: name the model that writes answers")
