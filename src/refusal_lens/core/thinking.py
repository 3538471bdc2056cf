"""Split a reasoning model's output into its thoughts and its answer. Everything that reads an answer reads the answer alone.

Formats: `think` for blocks between an opening and a closing mark (`<think>` and relatives in any case and with attributes,
`[THINK]`, `<|begin_of_thought|>`, `<|START_THINKING|>`, ...), also where the template wrote the opening and the text holds only
the closing one; `harmony` for channels, with their special tokens or with these lost in decoding ("analysis..assistantfinal..");
`auto` for whichever stands there; `none`; or a regular expression whose match is the thoughts and what follows it the answer
(or its groups named `reasoning` and `answer`).

A block that is never closed was cut: there is no answer. Answers may talk about such marks, so `auto` takes a mark for one only
outside code, an opening only at the start of a line, and a lone closing one only where no opening stands before it and not in the
midst of a sentence. What a text does not show: thoughts whose opening stands in the template and that were cut before their end;
a caller that has the rendered prompt says `opened` (`ends_in_thoughts`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from refusal_lens.core.thought_marks import CHANNEL, CLOSING, END, OPENING, ends_in_thoughts
from refusal_lens.errors import UserError

__all__ = ["CUT", "FORMATS", "NOTHING", "Split", "check_format", "ends_in_thoughts", "split_thinking"]

FORMATS = ("auto", "none", "think", "harmony")
CUT = "cut in its thoughts"
NOTHING = "no answer after its thoughts"

_WRAPPED = re.compile(
    r"\s*(?:<answer>|<\|begin_of_solution\|>|<\|START_RESPONSE\|>)(?P<answer>.*?)"
    r"(?:(?:</answer>|<\|end_of_solution\|>|<\|END_RESPONSE\|>)\s*)?\Z",
    re.IGNORECASE | re.DOTALL,
)
_CODE = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,}).*?(?:^[ \t]*(?P=fence)|\Z)|(?P<tick>`+)[^`\n]+(?P=tick)", re.DOTALL | re.MULTILINE
)
_STRIPPED = re.compile(
    r"\s*(?:assistant)?(?P<name>analysis|final)(?=[^\W\d_a-z]|[\"'\u00bf\u00a1\u201c\u201e\u00ab\u300c])"
)
_STRIPPED_FINAL = re.compile(r"assistantfinal(?![ \t])")
# Every mark holds one of these: most answers hold none and need not be searched for each kind.
_MAY_BE_MARKED = re.compile(r"[<\[\u25c1]|assistantfinal|\A\s*(?:assistant)?(?:analysis|final)")


class Split(NamedTuple):
    """Thoughts and answer of one output.

    Attributes:
        reasoning: The thoughts; None when there are none, "" for an empty block.
        answer: The answer; None when there is none.
        why: Why there is no answer: `CUT` or `NOTHING`; None when there is one.
        pieces: Spans [start, end) of the output that make up the answer.
    """

    reasoning: str | None
    answer: str | None
    why: str | None = None
    pieces: tuple[tuple[int, int], ...] = ()

    def place(self, position: int) -> int:
        """Where a character of the answer stands in the output."""
        for start, end in self.pieces:
            if position <= end - start:
                return start + position
            position -= end - start
        return self.pieces[-1][1] if self.pieces else position


def check_format(thinking: str) -> str:
    """Return a format that can be used.

    Args:
        thinking: One of `FORMATS`, or a regular expression.

    Returns:
        The same.

    Raises:
        UserError: Neither a known word nor a regular expression.
    """
    if thinking not in FORMATS:
        _pattern(thinking)
    return thinking


def split_thinking(text: str, thinking: str = "auto", *, opened: bool = False) -> Split:
    """Split an output into thoughts and answer.

    Args:
        text: The model's output.
        thinking: One of `FORMATS`, or a regular expression.
        opened: The prompt already ended inside an opened block of thoughts.

    Returns:
        Thoughts and answer.

    Raises:
        UserError: No such format.

    Example:
        >>> split_thinking("<think>Hm.</think>Use a wrench.")[:2]
        ('Hm.', 'Use a wrench.')
    """
    if thinking == "none" or (thinking in FORMATS and not opened and _MAY_BE_MARKED.search(text) is None):
        return Split(None, text, None, ((0, len(text)),))
    if thinking not in FORMATS:
        found = _by_pattern(text, _pattern(thinking))
        # What the template opened must be closed: an expression of whole blocks does not match such a text.
        return _blocks(text, sure=True, opened=True) if opened and found.reasoning is None else found
    if thinking in ("auto", "harmony"):
        found = _harmony(text, sure=thinking == "harmony")
        if found is not None:
            return found
    if thinking in ("auto", "think") or opened:
        return _blocks(text, sure=thinking == "think", opened=opened)
    return Split(None, text, None, ((0, len(text)),))


@lru_cache(maxsize=16)
def _pattern(expression: str) -> re.Pattern[str]:
    if re.fullmatch(r"[\w -]*", expression):
        raise UserError(f"thinking format {expression!r}: give {', '.join(FORMATS)} or a regular expression")
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise UserError(f"thinking format {expression!r} is no regular expression: {error}") from None


def _by_pattern(text: str, pattern: re.Pattern[str]) -> Split:
    found = pattern.search(text)
    if found is None:
        return Split(None, text, None, ((0, len(text)),))
    groups = pattern.groupindex
    reasoning = found["reasoning"] if "reasoning" in groups else found.group(0)
    span = found.span("answer") if "answer" in groups else (found.end(), len(text))
    return _made(text, [(reasoning or "").strip()], [span] if span[0] >= 0 else [])


def _blocks(text: str, *, sure: bool, opened: bool) -> Split:
    """Take out block after block; what stands between and behind them is the answer."""
    thoughts: list[str] = []
    pieces: list[tuple[int, int]] = []
    at = 0
    if opened:
        closing = _closing(text, 0, _code(text, 0), sure=True) or _any_closing(text)
        if closing is None:
            return Split(text.strip(), None, CUT)
        thoughts.append(text[: closing.start()].strip())
        at = closing.end()
    while at < len(text):
        code = _code(text, at)
        opening = _opening(text, at, code, sure=sure)
        lone = _closing(text, at, code, sure=sure)
        if lone is not None and (opening is None or lone.start() < opening[1].start()):
            thoughts.append(text[at : lone.start()].strip())  # its opening stands in the template
            at = lone.end()
            pieces.clear()
            continue
        if opening is None:
            break
        kind, mark = opening
        pieces.append((at, mark.start()))
        closing = _closed(text, mark, kind)
        if closing is None:
            thoughts.append(text[mark.end() :].strip())
            return Split("\n\n".join(thoughts).strip(), None, CUT)
        thoughts.append(text[mark.end() : closing.start()].strip())
        at = closing.end()
    pieces.append((at, len(text)))
    return _made(text, thoughts, pieces) if thoughts else Split(None, text, None, ((0, len(text)),))


def _opening(text: str, start: int, code: list[tuple[int, int]], *, sure: bool) -> tuple[int, re.Match[str]] | None:
    found: list[tuple[int, re.Match[str]]] = []
    for kind, pattern in enumerate(OPENING):
        for mark in pattern.finditer(text, start):
            line = text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()]
            first = not text[start : mark.start()].strip()
            if first or (not _inside(mark.start(), code) and (sure or _blank(line))):
                found.append((kind, mark))
                break
    return min(found, key=lambda item: item[1].start(), default=None)


def _closed(text: str, opening: re.Match[str], kind: int) -> re.Match[str] | None:
    """The closing mark of an opened block: the first that the thoughts do not merely mention, else the first at all."""
    found = list(CLOSING[kind].finditer(text, opening.end()))
    code = _code(text, opening.end())
    meant = (mark for mark in found if not _inside(mark.start(), code) and not _mentioned(text, mark))
    return next(meant, found[0] if found else None)


def _closing(text: str, start: int, code: list[tuple[int, int]], *, sure: bool) -> re.Match[str] | None:
    """The first closing mark without an opening before it."""
    found: list[re.Match[str]] = []
    for opening, closing in zip(OPENING, CLOSING, strict=True):
        meant = (mark for mark in closing.finditer(text, start) if not _inside(mark.start(), code))
        first = next((mark for mark in meant if sure or not _mentioned(text, mark)), None)
        if first is not None:
            before = opening.finditer(text, start, first.start())
            if sure or all(_inside(mark.start(), code) for mark in before):
                found.append(first)
    return min(found, key=lambda mark: mark.start(), default=None)


def _any_closing(text: str) -> re.Match[str] | None:
    """The first closing mark of any kind: what is sure to be thoughts may hold a fence of code that nothing closes."""
    found = (mark for pattern in CLOSING if (mark := pattern.search(text)) is not None)
    return min(found, key=lambda mark: mark.start(), default=None)


def _mentioned(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark stands in the midst of a sentence: a blank or quotation mark before it, words after it on its line."""
    before = text[: mark.start()]
    line, rest = before.rpartition("\n")[2], text[mark.end() :].split("\n", 1)[0]
    return bool(rest.strip()) and bool(
        re.search(r"(?:[^\s.!?\u3002\uff01\uff1f\u2026][ \t]+|[\"'(\u201c\u201e\u00ab\u300c])$", line)
    )


def _blank(line: str) -> bool:
    """Whether nothing stands before a mark on its line, and the line is not indented as code."""
    return not line.strip() and "\t" not in line and len(line) < 4


def _code(text: str, start: int) -> list[tuple[int, int]]:
    return [match.span() for match in _CODE.finditer(text, start)]


def _inside(position: int, code: list[tuple[int, int]]) -> bool:
    return any(start < position < end for start, end in code)


def _harmony(text: str, *, sure: bool) -> Split | None:
    marks = list(CHANNEL.finditer(text))
    code = _code(text, 0)
    if marks and (sure or not _inside(marks[0].start(), code)):
        before = text[: marks[0].start()]
        if sure or not before.strip() or END.search(before):
            return _channels(text, marks)
    head = _STRIPPED.match(text)
    final = _STRIPPED_FINAL.search(text)
    if final is not None and not (head or sure) and _inside(final.start(), code):
        return None
    if head is not None and head["name"] == "final":
        return _made(text, [], [(head.end(), len(text))])
    if final is None:
        return None if head is None else Split(text[head.end() :].strip(), None, CUT)
    return _made(text, [text[head.end() if head else 0 : final.start()].strip()], [(final.end(), len(text))])


def _channels(text: str, marks: list[re.Match[str]]) -> Split:
    thoughts = [END.sub("", text[: marks[0].start()]).strip()] if text[: marks[0].start()].strip() else []
    pieces: list[tuple[int, int]] = []
    ended = True
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        limit = len(text) if after is None else after.start()
        end = END.search(text, mark.end(), limit)
        span = (mark.end(), limit if end is None else end.start())
        ended = end is not None or after is not None
        if mark["name"] == "final":
            pieces.append(span)
        else:
            thoughts.append(text[slice(*span)].strip())
    if not pieces:
        return Split("\n\n".join(thoughts).strip(), None, NOTHING if ended else CUT)
    return _made(text, thoughts, pieces)


def _made(text: str, thoughts: list[str], pieces: list[tuple[int, int]]) -> Split:
    """Put the pieces of the answer together, without blank ends and without the marks that wrap a solution."""
    reasoning = "\n\n".join(thought for thought in thoughts if thought) if thoughts else None
    kept = [piece for piece in pieces if text[slice(*piece)].strip()]
    if len(kept) == 1 and (wrapped := _WRAPPED.match(text, *kept[0])):
        kept = [wrapped.span("answer")]
    if not "".join(text[slice(*piece)] for piece in kept).strip():
        return Split(reasoning, None, NOTHING)
    (first, first_end), (last, last_end) = kept[0], kept[-1]
    kept[0] = (first + len(text[first:first_end]) - len(text[first:first_end].lstrip()), first_end)
    last = kept[-1][0]
    kept[-1] = (last, last + len(text[last:last_end].rstrip()))
    return Split(reasoning, "".join(text[slice(*piece)] for piece in kept), None, tuple(kept))
