"""Models on disk: the standard folder layout, in float16, and a digest that names its content."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3ForCausalLM

from refusal_lens.core.digests import digest_files

DIGESTED = ("model.safetensors", "tokenizer.json", "config.json", "generation_config.json", "chat_template.jinja")


def save(network: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, *, folder: Path) -> None:
    """Writes a model folder that `AutoModelForCausalLM` and `AutoTokenizer` read; the network is not changed.

    Args:
        network: Network in float32.
        tokenizer: Its tokenizer.
        folder: Created if missing; files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = Qwen3ForCausalLM(network.config)
    half.load_state_dict(network.state_dict())
    half.generation_config = network.generation_config
    half.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load(folder: Path) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """Reads a model folder in float32 on the CPU.

    Args:
        folder: Written by `save`.

    Returns:
        Network in evaluation mode, tokenizer.
    """
    network = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(network, Qwen3ForCausalLM)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return network.eval(), tokenizer


def digest(folder: Path) -> str:
    """SHA-256 over the files that decide what the model does.

    Args:
        folder: A model folder.

    Returns:
        Hexadecimal digest; absent files are left out.
    """
    return digest_files(folder, [folder / name for name in DIGESTED if (folder / name).is_file()])
