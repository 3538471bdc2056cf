"""Text that others wrote, made safe to show: model answers, tokens, reasons, names from a run.

Removed: terminal escape sequences, control characters other than line breaks and tabs, direction overrides and isolates
(they reorder what a reader sees), invisible tag characters, lone surrogates. Joiners stay: several scripts need them.
HTML escaping is the template's work (autoescape), not this module's.
"""

from __future__ import annotations

import re

from refusal_lens.types import JsonValue

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|\x9b[0-?]*[ -/]*[@-~]")
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
_LINES = {"\n": "⏎", "\t": "⇥", " ": "␣"}


def clean(text: str) -> str:
    """The text without anything that could act on a terminal or reorder a page; line breaks and tabs stay."""
    return _HIDDEN.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def clean_value(value: JsonValue) -> JsonValue:
    """`clean` applied to every string of a JSON value, keys included."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [clean_value(item) for item in value]
    if isinstance(value, dict):
        return {clean(name): clean_value(item) for name, item in value.items()}
    return value


def visible_token(token: str) -> str:
    """A token with its blanks made visible; `(empty)` when nothing printable is left."""
    shown = "".join(_LINES.get(letter, letter) for letter in clean(token))
    return shown or "(empty)"


def shorten(text: str, *, limit: int) -> str:
    """At most `limit` characters, with an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def listing(words: list[str], *, last: str = "and") -> str:
    """Words as an enumeration: `a`, `a and b`, `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
