"""The marks around a model's thoughts, and what they say of a rendered prompt and of a tokenizer's special tokens."""

from __future__ import annotations

import re

_NAMES = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning)"
_MARKS = (
    (rf"<\s*(?P<name>{_NAMES})(?:\s[^<>]*)?>", rf"<\s*/\s*{_NAMES}\s*>"),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|channel>thought\b", r"<channel\|>"),
    (r"\u25c1think\u25b7", r"\u25c1/think\u25b7"),
)
OPENING = tuple(re.compile(opening, re.IGNORECASE) for opening, _ in _MARKS)
CLOSING = tuple(re.compile(closing, re.IGNORECASE) for _, closing in _MARKS)
CHANNEL = re.compile(r"(?:<\|start\|>[^<]*)?<\|channel\|>\s*(?P<name>\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
END = re.compile(r"<\|(?:end|return|call|start)\|>")
_CHANNEL_TOKEN = re.compile(r"<\|(?:channel|message|constrain|end|return|call|start)\|>")
_CUT_OPENING = re.compile(r"<\|channel>")  # Gemma: the token; the word "thought" follows as text
_WRAPPER = re.compile(r"</?answer>|<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_RESPONSE\|>", re.IGNORECASE)


def ends_in_thoughts(prompt: str) -> bool:
    """Whether a rendered prompt ends with the opening of a block of thoughts, so that the answer begins inside it.

    Args:
        prompt: The prompt as the model reads it, special tokens written out.

    Returns:
        What to give `split_thinking` as `opened`.
    """
    patterns = (*OPENING, CHANNEL)
    marks = (mark for pattern in patterns for mark in pattern.finditer(prompt))
    return any(mark.groupdict().get("name") != "final" and not prompt[mark.end() :].strip() for mark in marks)


def is_mark(token: str, *, harmony: bool) -> bool:
    """Whether a token marks thoughts or the answer after them, and must survive decoding.

    Args:
        token: Its text.
        harmony: The tokenizer has channels; without them `<|end|>` and the like are ends of a turn.

    Returns:
        Whether `split_thinking` reads it.
    """
    patterns = (*OPENING, *CLOSING, _CUT_OPENING, _WRAPPER, *((_CHANNEL_TOKEN,) if harmony else ()))
    return any(pattern.fullmatch(token) for pattern in patterns)
