"""The models of `bench.gpu`: shapes with random weights made on the device; and what the device can do at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from bench.models import _tokenizer
from refusal_lens.model import LensModel, ModelProvenance, assemble

ShapeName = Literal["7b", "tiny"]
SHAPES: dict[ShapeName, dict[str, int]] = {
    "7b": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
    },
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 9000,
    },
}


def build(shape: ShapeName, device: torch.device) -> LensModel:
    """A model of a shape with random weights that never ends an answer."""
    tokenizer = _tokenizer(None)
    config = Qwen2Config(
        **SHAPES[shape],
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            network: PreTrainedModel = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    name = f"random:{shape}"
    known = ModelProvenance(name, None, name, type(network).__name__, str(dtype)[6:], str(device), name)
    model = assemble(network, tokenizer, provenance=known)
    model.end_ids = ()
    return model


def rates(device: torch.device, dtype: torch.dtype, *, size: int) -> tuple[float, float]:
    """Bytes per second of a copy (read and written) and operations per second of large products, measured."""
    one = torch.ones(size * size * 8, dtype=torch.float32, device=device)
    two = torch.empty_like(one)
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))

    def best(work: Callable[[], object]) -> float:
        taken: list[float] = []
        for _ in range(5):
            if device.type == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - begun)
        return min(taken)

    return 2 * one.nbytes / best(lambda: two.copy_(one)), 2 * size**3 / best(lambda: left @ right)
