"""What prompts have in common, computed once: prompts as a tree of token segments, and the unchanged model on every segment.

Every prompt starts with the same template tokens, and many share their first words. A segment holds the tokens between two
branchings, its parent what comes before; a leaf ends a prompt. Segments are split off where that saves `WORTH` tokens.

How blocks are called is watched once for each shape of segments (`prefix_calls`); where a block was handed a cache, `Keys`
takes its place.

It changes nothing in the model and runs no candidate; that is `prefix_passes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from refusal_lens.directions.prefix_calls import Calls, entering
from refusal_lens.model import LensModel

WORTH = 4

KeyValue: TypeAlias = tuple[Tensor, Tensor]


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


@dataclass(eq=False)
class Keys:
    """Stands in for a cache inside one block: puts the keys and values of what came before in front, and keeps the result.

    Attributes:
        before: Keys and values [row, head, seq, width] of the tokens before, None at the beginning of a prompt.
        after: The same up to the end of the segment, once the block has run.
    """

    before: KeyValue | None
    after: KeyValue | None = None

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> KeyValue:
        """What the block's attention calls with its new keys and values."""
        if self.before is not None:
            keys = torch.cat([self.before[0], keys], dim=-2)
            values = torch.cat([self.before[1], values], dim=-2)
        self.after = (keys, values)
        return self.after


@dataclass(eq=False)
class Group:
    """Segments of one start and one length.

    Attributes:
        members: Indices of the segments.
        start: Their first position.
        length: Their tokens.
    """

    members: list[int]
    start: int
    length: int


@dataclass(eq=False)
class PrefixCache:
    """The unchanged model on all segments of some prompts.

    Attributes:
        model: The model.
        segments: Parents before children.
        calls: How blocks are called.
        inputs: Per segment, the input of every block [layer, seq, d_model].
        ends: Per prompt, what the last block returns for its last token [1, d_model].
        keys: Per inner segment, keys and values of everything up to its end, by layer; one row.
    """

    model: LensModel
    segments: list[Segment]
    calls: Calls
    inputs: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    ends: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    keys: dict[int, list[KeyValue]] = field(default_factory=dict[int, list[KeyValue]])

    @torch.no_grad()
    def add(self, group: Group) -> None:
        """Record the segments of a group; their parents must have been recorded."""
        first = self.segments[group.members[0]]
        call = self.calls.watch(first.tokens, self._before(first))
        members = [self.segments[index] for index in group.members]
        parents = [segment.parent for segment in members if segment.parent is not None]
        inner = any(segment.prompt is None for segment in members)
        ids = torch.tensor([segment.tokens for segment in members], device=self.model.device)
        hidden = entering(self.model, ids, group.start)
        inputs: list[Tensor] = []
        own: list[KeyValue] = []
        for layer, block in enumerate(self.model.layout.blocks):
            inputs.append(hidden)
            keys = Keys(gather([self.keys[parent][layer] for parent in parents]))
            hidden = call.run(block.module, layer, hidden, keys if parents or inner else None)
            if inner:
                own.append(kept(keys))
        for place, index in enumerate(group.members):
            self.inputs[index] = torch.stack([layer[place] for layer in inputs])
            prompt = self.segments[index].prompt
            if prompt is not None:
                self.ends[prompt] = hidden[place, -1:].clone()
            else:
                self.keys[index] = [(one[place : place + 1], two[place : place + 1]) for one, two in own]

    def _before(self, segment: Segment) -> tuple[int, ...]:
        """The tokens of a prompt that come before a segment."""
        before: tuple[int, ...] = ()
        step = segment.parent
        while step is not None:
            before = self.segments[step].tokens + before
            step = self.segments[step].parent
        return before


def gather(parents: Sequence[KeyValue]) -> KeyValue | None:
    """Keys and values of each row's parent: candidate-major rows over the parents of a group; None without parents."""
    if len(parents) < 2:
        return parents[0] if parents else None
    keys, values = (torch.stack([pair[side] for pair in parents], dim=1).flatten(0, 1) for side in (0, 1))
    return keys, values


def kept(keys: Keys) -> KeyValue:
    """Keys and values a block left behind.

    Args:
        keys: What was passed to it.

    Returns:
        Those up to the end of the segment.

    Raises:
        TypeError: The block does not hand its keys and values to a cache.
    """
    if keys.after is None:
        raise TypeError("blocks do not hand their keys and values to a cache")
    return keys.after


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
