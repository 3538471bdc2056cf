"""A model's size told from its files alone, in about a second: configuration, headers of the weights, tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig

from refusal_lens.errors import ModelError
from refusal_lens.model.source import Source, first_line, locate_source, open_config
from refusal_lens.model.tokens import open_tokenizer, post_instruction_length, render


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a model decides cost.

    Attributes:
        n_layers: Decoder blocks.
        d_model: Width of the residual stream.
        vocabulary: Size of the vocabulary.
        parameters: Numbers in its weight files.
        n_positions: Post-instruction positions of its chat template.
        prompt_tokens: Mean length of some rendered prompts.
        key_width: Numbers that a layer keeps of a token as keys; as many as values.
    """

    n_layers: int
    d_model: int
    vocabulary: int
    parameters: int
    n_positions: int
    prompt_tokens: float
    key_width: int


def outline(
    spec: str,
    prompts: Sequence[str],
    *,
    revision: str | None = None,
    chat_template: Path | None = None,
    thinking: str = "auto",
    trust_remote_code: bool = False,
) -> Outline:
    """Read a model's size; no weight is read.

    Args:
        spec: Hub id, folder, or `testbed:NAME`.
        prompts: Some prompts, at least one, to be rendered and counted.
        revision: Branch, tag or commit of a hub model.
        chat_template: Jinja file that replaces the model's own chat template.
        thinking: "on" or "off" by the chat template's own switch (`switch`), "auto" for what it does by itself.
        trust_remote_code: Run Python code that comes with the model.

    Returns:
        Its size.

    Raises:
        ModelError: A file says too little, or cannot be read.
    """
    source = locate_source(spec, revision=revision, code=trust_remote_code)
    try:
        config = open_config(source, trust_remote_code=trust_remote_code).get_text_config()
        layers, width, words = config.num_hidden_layers, config.hidden_size, config.vocab_size
        parameters, keys = _parameters(source), _key_width(config)
    except (SafetensorError, OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{spec}: its size cannot be told from its files: {first_line(error)}") from error
    tokenizer = open_tokenizer(
        source, chat_template=chat_template, thinking=thinking, trust_remote_code=trust_remote_code
    )
    lengths = [len(ids) for ids in render(tokenizer, prompts)]
    return Outline(
        n_layers=int(layers),
        d_model=int(width),
        vocabulary=int(words),
        parameters=parameters,
        n_positions=post_instruction_length(tokenizer),
        prompt_tokens=sum(lengths) / len(lengths),
        key_width=keys,
    )


def _key_width(config: PreTrainedConfig) -> int:
    """Heads that keep keys times their width, by the usual names; the stream's width where a configuration has others."""
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    width = getattr(config, "head_dim", None)
    if not isinstance(heads, int):
        return int(config.hidden_size)
    return heads * int(width or config.hidden_size // config.num_attention_heads)


def _parameters(source: Source) -> int:
    if source.gguf is None:
        return sum(map(_numbers, source.folder.glob("*.safetensors")))
    from gguf import GGUFReader

    return sum(int(tensor.n_elements) for tensor in GGUFReader(str(source.folder / source.gguf)).tensors)


def _numbers(file: Path) -> int:
    with safe_open(str(file), framework="pt") as opened:
        return sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118 (not a dict)
