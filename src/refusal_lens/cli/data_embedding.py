"""Embedding similarity of two lists of texts with a local encoder: mean-pooled last hidden states, cosine.

The one use of transformers outside the model room: an encoder is no chat model, has no template and no residual stream
to look into, so `load_model` would rightly refuse it. No code of the model's own is ever run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from refusal_lens.errors import ModelError

_BATCH = 16
_MAX_TOKENS = 512


def similarity_of(model: str) -> Callable[[Sequence[str], Sequence[str]], list[float]]:
    """Load an encoder.

    Args:
        model: A folder with a Hugging Face encoder and its tokenizer.

    Returns:
        A function that gives the cosine of each pair of texts, in [-1, 1].

    Raises:
        ModelError: When the folder is absent or holds no encoder.
    """
    if not Path(model).is_dir():
        raise ModelError(f"{model!r}: no such folder; name a local encoder, e.g. a multilingual sentence encoder")
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        encoder = AutoModel.from_pretrained(model, local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{model!r}: no encoder that can be loaded ({str(error).splitlines()[0][:200]})") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token

    def embed(texts: Sequence[str]) -> torch.Tensor:
        parts: list[torch.Tensor] = []
        for start in range(0, len(texts), _BATCH):
            batch = tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                max_length=_MAX_TOKENS,
                return_tensors="pt",
            )
            with torch.inference_mode():
                hidden = encoder(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            parts.append((hidden * mask).sum(1) / mask.sum(1).clamp(min=1))
        return torch.nn.functional.normalize(torch.cat(parts), dim=-1)

    def similarity(one: Sequence[str], other: Sequence[str]) -> list[float]:
        return [float(value) for value in (embed(one) * embed(other)).sum(-1)]

    return similarity
