"""Which prompts do not fit a model's context, told from its configuration and tokenizer alone: no weights are loaded.

A prompt of b UTF-8 bytes has at most b tokens plus the template's, so that most prompts need no tokenizer either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from transformers import PreTrainedConfig

from refusal_lens.model.source import locate_source, open_config
from refusal_lens.model.tokens import open_tokenizer, render

TEMPLATE_TOKENS = 256
"""More than any chat template adds to a user's words."""


def context_of(config: PreTrainedConfig) -> int | None:
    """Most tokens of a prompt with its answer.

    Under `longrope` (Phi 3 and 4) one row beyond the length of the first training has every row of its batch read at other
    angles, past tokens included: answers would depend on what else is in the batch, so that length is where they end here.

    Args:
        config: Configuration of the text model.

    Returns:
        Tokens; None where the configuration states no limit.
    """
    stated = getattr(config, "max_position_embeddings", None)
    context = stated if isinstance(stated, int) and stated > 0 else None
    ropes = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if not isinstance(ropes, dict):
        return context
    kinds = cast("dict[str, object]", ropes)
    for rope in (kinds, *kinds.values()):  # one for all layers, or one for each kind of layer
        if isinstance(rope, dict) and "longrope" in (rope.get("rope_type"), rope.get("type")):
            first = rope.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            if isinstance(first, int) and first > 0:
                context = first if context is None else min(context, first)
    return context


def too_long(
    spec: str,
    instructions: Sequence[str],
    *,
    revision: str | None = None,
    chat_template: Path | None = None,
    thinking: str = "auto",
    trust_remote_code: bool = False,
) -> list[int]:
    """Find prompts that leave no room for an answer.

    Args:
        spec: Hub id, folder, or `testbed:NAME`.
        instructions: User messages.
        revision: Branch, tag or commit of a hub model.
        chat_template: Jinja file that replaces the model's own chat template.
        thinking: "on" or "off" by the chat template's own switch (`switch`), "auto" for what it does by itself.
        trust_remote_code: Whether the model's own code may run.

    Returns:
        Indices into `instructions`, ascending.

    Raises:
        ModelError: The model's configuration or tokenizer cannot be read.
    """
    source = locate_source(spec, revision=revision)
    config = open_config(source, trust_remote_code=trust_remote_code)
    context = context_of(config.get_text_config())
    if context is None:
        return []
    suspects = [
        index
        for index, text in enumerate(instructions)
        if len(text.encode(errors="replace")) + TEMPLATE_TOKENS >= context
    ]
    if not suspects:
        return []
    tokenizer = open_tokenizer(
        source, chat_template=chat_template, thinking=thinking, trust_remote_code=trust_remote_code
    )
    lengths = map(len, render(tokenizer, [instructions[index] for index in suspects]))
    return [index for index, length in zip(suspects, lengths, strict=True) if length >= context]
