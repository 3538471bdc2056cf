"""What a chat template does that a reader of the numbers should know, found by rendering small chats and comparing.

1. The assistant's turn is not opened, so that answers and first tokens are those of another place.
2. The token that ends a turn is no end token of the model: answers would run on into a next turn. It is added where it is
   unambiguous: the first added token after an answer, and not one that opens the assistant's turn.
3. Today's date is written into prompts (always `DATE` here), a switch for thinking, a system prompt of its own, the begin
   token twice or not at all.

Nothing about any template is typed in, and nothing here changes what is rendered.
"""

from __future__ import annotations

from datetime import datetime
from typing import cast

from transformers import PreTrainedTokenizerBase

from refusal_lens.model.switch import DATE, UNRENDERABLE, find_switch
from refusal_lens.model.tokens import PROBES, date_macro, render

ANSWER = "Twelve apples"
SYSTEM = "Mark of a system prompt"
OTHER_DAY = datetime(2031, 3, 9)

Chat = list[dict[str, str]]


def examine_template(
    tokenizer: PreTrainedTokenizerBase, end_ids: tuple[int, ...]
) -> tuple[int | None, tuple[str, ...]]:
    """Render small chats and say what is unusual.

    Args:
        tokenizer: Tokenizer with a chat template.
        end_ids: The end tokens that the model's files name.

    Returns:
        The token that ends a turn where it must be added to the end tokens, None otherwise; and one sentence per finding.
    """
    asked: Chat = [{"role": "user", "content": PROBES[0]}]
    answered: Chat = [*asked, {"role": "assistant", "content": ANSWER}]
    opened, whole = _text(tokenizer, asked), _text(tokenizer, answered, opened=False)
    if opened is None:
        return None, ()
    found: list[str] = []
    turn_end = None
    if whole is not None and whole.count(ANSWER) == 1 and PROBES[0] in whole:
        head, tail = whole.split(ANSWER)
        if _text(tokenizer, asked, opened=False) == opened and head.startswith(opened) and head[len(opened) :].strip():
            found.append(
                "the chat template does not open the assistant's turn (it ignores add_generation_prompt): "
                f"{head[len(opened) :]!r} is missing at the end of every prompt, and numbers are those of another place"
            )
        turn_end = _turn_end(tokenizer, head.rpartition(PROBES[0])[2], tail)
        if turn_end is None:
            found.append(
                "the chat template ends an answer with no token of its own: answers may run on into a next turn"
            )
        elif turn_end in end_ids:
            turn_end = None
        else:
            token = str(tokenizer.convert_ids_to_tokens(turn_end))
            found.append(
                f"the chat template ends a turn with {token!r}, which the model's files do not name as an end token, so that "
                "answers would run on: it is taken as one here; add it to eos_token_id in generation_config.json"
            )
    if opened != _text(tokenizer, asked, day=OTHER_DAY):
        found.append(f"the chat template writes today's date into every prompt: here it is always {DATE}")
    switch = find_switch(tokenizer)
    if switch is not None:
        usual = f"by default {switch.default}" if switch.default else "by default neither on nor off"
        found.append(
            f"the chat template has a switch for thinking, {switch.name}, {usual}: --thinking on or off sets it"
        )
    own = _own_system_prompt(tokenizer, asked, opened)
    if own:
        found.append(f"the chat template puts a system prompt of its own before the user's words: {own[:160]!r}")
    return turn_end, (*found, *_begin(tokenizer))


def _text(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, *, opened: bool = True, day: datetime | None = None
) -> str | None:
    """A rendered chat; None where the template does not take it."""
    template = str(tokenizer.chat_template)
    try:
        return cast(
            "str",
            tokenizer.apply_chat_template(
                chat,
                add_generation_prompt=opened,
                tokenize=False,
                chat_template=template if day is None else template.replace(date_macro(), date_macro(day)),
                date_string=DATE if day is None else day.strftime("%d %b %Y"),
            ),
        )
    except UNRENDERABLE:
        return None


def _turn_end(tokenizer: PreTrainedTokenizerBase, between: str, tail: str) -> int | None:
    """The first token after an answer, where that is an added one and does not open the assistant's turn."""
    added = tokenizer.added_tokens_decoder
    ids = tokenizer.encode(tail.lstrip(), add_special_tokens=False)
    opening = [number for number in tokenizer.encode(between, add_special_tokens=False) if number in added]
    return ids[0] if ids and ids[0] in added and ids[0] not in opening[-1:] else None


def _own_system_prompt(tokenizer: PreTrainedTokenizerBase, asked: Chat, opened: str) -> str:
    """What stands where a system prompt would stand, without one."""
    before, mark, after = (_text(tokenizer, [{"role": "system", "content": SYSTEM}, *asked]) or "").partition(SYSTEM)
    if not mark or not opened.startswith(before) or not opened.endswith(after):
        return ""
    return opened[len(before) : len(opened) - len(after)].strip()


def _begin(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    begin = tokenizer.bos_token_id
    if not isinstance(begin, int):
        return []
    ids = render(tokenizer, PROBES[:1])[0]
    if ids[:2] == [begin, begin]:
        return [f"every prompt begins with {tokenizer.bos_token!r} twice"]
    if begin not in ids and tokenizer.encode(PROBES[0])[:1] == [begin]:
        return [f"the tokenizer begins every text with {tokenizer.bos_token!r}, the chat template does not write it"]
    return []
