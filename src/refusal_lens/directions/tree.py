"""Prompts as a tree of token segments, so that what prompts begin with in common is computed once.

Every prompt starts with the same template tokens, and many share their first words. A segment holds the tokens between
two branchings; its parent holds what comes before. A leaf ends a prompt. Segments are only split off where that saves at
least `WORTH` tokens. Pure bookkeeping on token ids: no model here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WORTH = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens.

    Attributes:
        tokens: Its token ids.
        start: Position of its first token in the prompt.
        parent: Index of the segment before it, None at the beginning of a prompt.
        prompt: The prompt that ends here, None for a shared beginning.
    """

    tokens: tuple[int, ...]
    start: int
    parent: int | None
    prompt: int | None

    @property
    def end(self) -> int:
        """Position after its last token."""
        return self.start + len(self.tokens)


def grow(token_ids: Sequence[Sequence[int]], *, share: bool = True) -> list[Segment]:
    """Cut prompts into segments, parents before children.

    Args:
        token_ids: Ids of each prompt, none empty. The last token of a prompt is never shared.
        share: Whether common beginnings become segments of their own; otherwise each prompt is one leaf.

    Returns:
        The segments; exactly one leaf per prompt.
    """
    segments: list[Segment] = []
    everything = list(range(len(token_ids)))
    if share:
        _branch(token_ids, everything, 0, None, segments)
    else:
        segments += [Segment(tuple(token_ids[row]), 0, None, row) for row in everything]
    return segments


def _branch(
    token_ids: Sequence[Sequence[int]], rows: list[int], start: int, parent: int | None, segments: list[Segment]
) -> None:
    """Add the segments of prompts that agree on everything before `start`."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(token_ids[row][start], []).append(row)
    for group in groups.values():
        common = _common(token_ids, group, start)
        if (len(group) - 1) * (common - start) >= WORTH:
            segments.append(Segment(tuple(token_ids[group[0]][start:common]), start, parent, None))
            _branch(token_ids, group, common, len(segments) - 1, segments)
        else:
            segments += [Segment(tuple(token_ids[row][start:]), start, parent, row) for row in group]


def _common(token_ids: Sequence[Sequence[int]], rows: list[int], start: int) -> int:
    """Position up to which prompts agree, at most one before the shortest one's end."""
    most = min(len(token_ids[row]) for row in rows) - 1
    end = start
    while end < most and len({token_ids[row][end] for row in rows}) == 1:
        end += 1
    return end
