"""Cut the part of an answer that decides: its lead, without quoted speech.

The lead is the text before the first list item, code block or headed section, at most LEAD_CHARACTERS long: a refusal
is said at the start, and lists hold instructions or alternatives whose words mislead. Quoted speech is somebody else's
("the screen says 'I cannot help you'") and is blanked, unless hardly anything else is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LEAD_CHARACTERS = 300
_QUOTES = re.compile(
    r"\u201c[^\u201c\u201d\n]{1,240}\u201d"
    r"|\u201e[^\u201c\u201d\u201e\n]{1,240}[\u201c\u201d]"
    r"|\u00ab[^\u00ab\u00bb\n]{1,240}\u00bb"
    r"|\u00bb[^\u00ab\u00bb\n]{1,240}\u00ab"
    r"|\u300c[^\u300c\u300d\n]{1,240}\u300d"
    r"|\u300e[^\u300e\u300f\n]{1,240}\u300f"
    r'|(?<!\w)"[^"\n]{1,240}"'
    r"|(?<!\w)'[^'\n]{12,240}'(?!\w)"
)
_LIST_ITEM = re.compile(
    r"(?m)^[ \t]*(?:\d{1,2}[.)\uff0e\u3001]|[-*\u2022\u00b7\u30fb][ \t]|#{1,6} |```|\*\*\d|\|)"
    r"|[:\uff1a][ \t]*(?:1[.)]|[-\u2022] )"
)
_SHARE_LEFT = 0.3


@dataclass(frozen=True, slots=True)
class Lead:
    """The deciding part of an answer.

    Attributes:
        text: The answer's start with quoted speech blanked, same length as the part it covers.
        start: Where it starts in the answer.
        list_at: Where the first list item, heading or code block starts within the lead window, None without one.
        whole: The lead is the whole answer.
    """

    text: str
    start: int
    list_at: int | None
    whole: bool


def read_lead(text: str, *, limit: int = LEAD_CHARACTERS) -> Lead:
    """Find the lead of an answer.

    Args:
        text: The answer.
        limit: Characters to read at most.

    Returns:
        The lead.
    """
    start = len(text) - len(text.lstrip())
    window = text[start : start + limit]
    item = _LIST_ITEM.search(window)
    list_at = item.start() if item else None
    body = window if list_at is None or list_at == 0 else window[:list_at]
    blanked = _QUOTES.sub(lambda match: " " * len(match.group()), body)
    if len(blanked.split()) and len("".join(blanked.split())) < _SHARE_LEFT * len("".join(body.split())):
        blanked = body
    return Lead(text=blanked or body, start=start, list_at=list_at, whole=start + len(body) >= len(text.rstrip()))
