"""Untrusted text for a terminal: control characters made visible, so that they cannot move the cursor or hide words.

Escaped: C0 and C1 controls (ANSI sequences start with one), directional overrides and isolates, zero-width characters, line
and paragraph separators, lone surrogates. Rich markup is not interpreted where text goes through `rich.text.Text`.
"""

from __future__ import annotations

import unicodedata

_KEPT = {"\n", "\t"}
_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def plain(text: str, *, one_line: bool = False) -> str:
    """The text with everything invisible or active replaced by its code point.

    Args:
        text: Anything, e.g. a name read from a stranger's run directory.
        one_line: Also escape line ends and tabs.

    Returns:
        Text that a terminal shows as it is.
    """
    kept = set[str]() if one_line else _KEPT
    return "".join(
        f"\\u{{{ord(character):x}}}"
        if unicodedata.category(character) in _ESCAPED and character not in kept
        else character
        for character in text
    )
