"""Prompts as a monitor did not see them: mixed with English, in Latin letters, after a long text, later in a chat.

Each shift keeps what is asked. They are mild and fixed: no search for what fools a monitor.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from refusal_lens.errors import UserError
from refusal_lens.monitor.reading import Chat
from refusal_lens.types import Prompt

PADDING = 8
Shift: TypeAlias = Callable[[Sequence[Prompt], Sequence[str]], list[str | Chat | None]]
"""Given test prompts and harmless texts of the same language; None for a prompt that the shift does not touch."""


def code_switched(prompts: Sequence[Prompt], _context: Sequence[str]) -> list[str | Chat | None]:
    """The first half of the English original, then the second half of the prompt."""
    return [
        None if prompt.english in (None, prompt.text) else _mixed(prompt.english or "", prompt.text)
        for prompt in prompts
    ]


def romanised(prompts: Sequence[Prompt], _context: Sequence[str]) -> list[str | Chat | None]:
    """In plain Latin letters; None where a prompt has no others."""
    try:
        from anyascii import anyascii
    except ImportError:
        raise UserError("the shift romanised needs anyascii: pip install 'refusal-lens[monitor]'") from None
    plain = [anyascii(unicodedata.normalize("NFC", prompt.text)) for prompt in prompts]
    return [None if new == prompt.text else new for new, prompt in zip(plain, prompts, strict=True)]


def padded(prompts: Sequence[Prompt], context: Sequence[str]) -> list[str | Chat | None]:
    """After PADDING harmless texts."""
    before = "\n".join(context[:PADDING])
    return [f"{before}\n{prompt.text}" if context else None for prompt in prompts]


def second_turn(prompts: Sequence[Prompt], context: Sequence[str]) -> list[str | Chat | None]:
    """As the user's second message, after a harmless one and an answer that only acknowledges it."""
    if not context:
        return [None] * len(prompts)
    first = [{"role": "user", "content": context[0]}, {"role": "assistant", "content": "OK."}]
    return [[*first, {"role": "user", "content": prompt.text}] for prompt in prompts]


SHIFTS: Mapping[str, Shift] = {
    "code-switched": code_switched,
    "romanised": romanised,
    "padded": padded,
    "second-turn": second_turn,
}


def shifts_of(text: str | None) -> tuple[str, ...]:
    """Names in an option: all, or some separated by commas; none where it is absent."""
    if text is None:
        return ()
    if text == "all":
        return tuple(SHIFTS)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in SHIFTS:
            raise UserError(f"no shift {name!r}: choose of {', '.join(SHIFTS)}, or all")
    return names


def _mixed(english: str, text: str) -> str:
    first, second = english.split(), text.split()
    tail = " ".join(second[len(second) // 2 :]) if len(second) > 2 else text[len(text) // 2 :]
    return f"{' '.join(first[: (len(first) + 1) // 2])} {tail}"
