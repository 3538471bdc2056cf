"""The tokenizer and the chat template: load them as the model's files say, render instructions, find the positions.

1. The tokenizer is read from tokenizer.json itself: choosing a class by model type can silently replace it.
2. A chat template comes from the model or from the user's file; without one there is no position to look at.
3. Special tokens inside an instruction are encoded as plain text: a prompt cannot forge the end of its own turn.
4. The post-instruction positions are the tokens that several very different instructions, rendered, have in common
   at their end. Nothing about any template is typed in.

Templates are rendered in transformers' sandbox; one that asks for today's date always gets `DATE`, so that a run can
be repeated tomorrow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from refusal_lens.errors import DataError, ModelError
from refusal_lens.model.source import Source, first_line
from refusal_lens.model.switch import DATE, UNRENDERABLE, set_thinking

DAY = datetime(2024, 7, 26)
PROBES = (
    "What is 7 + 5?",
    "Tell me a story about cats",
    "写一首诗。",
    "Ẹ jọ̀ọ́, ṣé ó dára",
    "Zähle bis 10",
    "اكتب رسالة!",
)
"""Instructions in several scripts with different last characters: rendered to find what follows an instruction."""


def open_tokenizer(
    source: Source, *, chat_template: Path | None = None, thinking: str = "auto", trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model's files: an adapter's own where it brings one, a GGUF file's from the file.

    Args:
        source: The model's files.
        chat_template: As for `load_tokenizer`.
        thinking: "on" or "off" by the chat template's own switch (`switch`), "auto" for what it does by itself.
        trust_remote_code: As for `load_tokenizer`.

    Returns:
        As `load_tokenizer`.

    Raises:
        ModelError: As `load_tokenizer`.
    """
    if chat_template is None and source.adapter is not None:  # trained with its own template, or with the base's
        own = [folder / "chat_template.jinja" for folder in (source.adapter, source.folder)]
        chat_template = next((file for file in own if file.is_file()), None)
    tokenizer = load_tokenizer(
        source.words, gguf=source.gguf, chat_template=chat_template, trust_remote_code=trust_remote_code
    )
    set_thinking(tokenizer, thinking)
    return tokenizer


def load_tokenizer(
    folder: Path, *, gguf: str | None = None, chat_template: Path | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer exactly as its tokenizer.json defines it, with a usable chat template.

    Args:
        folder: The model's folder.
        gguf: Name of the GGUF file in it that holds the tokenizer, where one does.
        chat_template: Jinja file that replaces the model's own template.
        trust_remote_code: Allow a tokenizer class that lives in the model's own files.

    Returns:
        The tokenizer; pads on the left, has a pad token.

    Raises:
        ModelError: No or broken tokenizer, no chat template.
    """
    own = folder / "tokenizer.json"
    try:
        tokenizer: PreTrainedTokenizerBase = (
            PreTrainedTokenizerFast.from_pretrained(str(folder))
            if gguf is None and own.is_file()
            else AutoTokenizer.from_pretrained(
                str(folder), trust_remote_code=trust_remote_code, **({} if gguf is None else {"gguf_file": gguf})
            )
        )
    except Exception as error:
        raise ModelError(f"no usable tokenizer in {folder / (gguf or '')}: {first_line(error)}") from error
    if not tokenizer.encode(PROBES[0], add_special_tokens=False):
        raise ModelError(f"{folder} has no tokenizer (tokenizer.json): copy the model's tokenizer files into it")
    if gguf is None and own.is_file() and not same_tokenizer(tokenizer, own):
        raise ModelError(
            f"the tokenizer loaded from {folder} does not encode as its tokenizer.json does; report this model"
        )
    if chat_template is not None:
        tokenizer.chat_template = _read_template(chat_template)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    _need_template(tokenizer, folder)
    return tokenizer


def same_tokenizer(tokenizer: PreTrainedTokenizerBase, file: Path) -> bool:
    """Whether a loaded tokenizer gives the same ids as a tokenizer.json read by the tokenizers library alone."""
    raw = Tokenizer.from_file(str(file))
    raw.no_padding()
    raw.no_truncation()
    return all(
        raw.encode(text, add_special_tokens=False).ids == tokenizer.encode(text, add_special_tokens=False)
        for text in PROBES
    )


def replaced_by_type(folder: Path) -> bool:
    """Whether choosing the tokenizer's class by model type would change its ids (it does for some model types)."""
    own = folder / "tokenizer.json"
    return own.is_file() and not same_tokenizer(AutoTokenizer.from_pretrained(str(folder)), own)


def _read_template(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read the chat template {file}: {first_line(error)}") from error
    if file.suffix != ".json":
        return text
    try:
        return str(json.loads(text)["chat_template"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{file} holds no chat_template; give a .jinja file or a tokenizer_config.json") from error


def _need_template(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
        tokenizer.chat_template = template
    legacy = folder / "chat_template.json"
    if not template and legacy.is_file():
        raise ModelError(
            f"the chat template of {folder} stands in chat_template.json, an old processor's file that no tokenizer reads: "
            f"pass --chat-template {legacy}"
        )
    if not template:
        raise ModelError(
            f"{folder} has no chat template, so it is probably a base model: "
            "audit its chat variant, or give a template with --chat-template FILE"
        )
    if "strftime_now" in template and date_macro() not in template:
        tokenizer.chat_template = date_macro() + template


def date_macro(day: datetime = DAY) -> str:
    """What stands before a template that asks for the date: `strftime_now` always tells the same day, in whatever form."""
    forms = ("%-d", "%-m", "%d", "%b", "%B", "%Y", "%y", "%m", "%A", "%a", "%j", "%H", "%M", "%S")
    told = "".join(f".replace('{form}', '{day.strftime(form)}')" for form in forms)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{told} }}}}{{%- endmacro -%}}"


def render(tokenizer: PreTrainedTokenizerBase, instructions: Sequence[str]) -> list[list[int]]:
    """Token ids of each instruction as a user turn with the assistant's turn opened.

    Args:
        tokenizer: Tokenizer with a chat template.
        instructions: One user message each.

    Returns:
        Ids without padding.

    Raises:
        ModelError: The template cannot be rendered.
    """
    if not instructions:
        return []
    _check_text(instructions)
    chats = [[{"role": "user", "content": text}] for text in instructions]
    try:
        encoded = tokenizer.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
            date_string=DATE,
        )
    except UNRENDERABLE as error:
        raise ModelError(
            f"the model's chat template cannot be rendered: {first_line(error)}; give another with --chat-template FILE"
        ) from error
    return cast("list[list[int]]", encoded)


def _check_text(instructions: Sequence[str]) -> None:
    for index, text in enumerate(instructions):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"prompt {index} holds half a character (a lone surrogate at {error.start}); repair or leave it out"
            ) from error


def post_instruction_length(tokenizer: PreTrainedTokenizerBase) -> int:
    """Number of tokens that the template puts after every instruction.

    Args:
        tokenizer: Tokenizer with a chat template.

    Returns:
        Their count.

    Raises:
        ModelError: The template puts nothing after the instruction, or ignores it.
    """
    rendered = render(tokenizer, PROBES)
    if any(rendered[0] == other for other in rendered[1:]):
        raise ModelError(
            "the chat template renders different instructions alike; give another with --chat-template FILE"
        )
    if PROBES[1] not in tokenizer.decode(rendered[1]) and not _written(tokenizer, PROBES[1]):
        raise ModelError(
            "the chat template does not write the user's words as they are given (it may take them only as a list of parts); "
            "give another with --chat-template FILE"
        )
    shared = 0
    for column in zip(*(reversed(ids) for ids in rendered), strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    if shared == 0:
        raise ModelError(
            "the chat template puts no token after the instruction, so there is no post-instruction position to look at; "
            "give another with --chat-template FILE"
        )
    return shared


def _written(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether the rendered text holds the instruction (its tokens may be lossy)."""
    chat = [{"role": "user", "content": text}]
    return text in str(
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, date_string=DATE)
    )
