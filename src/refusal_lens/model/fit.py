"""Which prompts do not fit a model's context, told from its configuration and tokenizer alone: no weights are loaded.

A prompt of b UTF-8 bytes has at most b tokens plus the template's, so that most prompts need no tokenizer either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refusal_lens.model.source import locate_source, open_config
from refusal_lens.model.tokens import open_tokenizer, render

TEMPLATE_TOKENS = 256
"""More than any chat template adds to a user's words."""


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
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not context:
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
