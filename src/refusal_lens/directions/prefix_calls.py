"""How a model calls its blocks, learnt by watching it, so that blocks can be run without it.

For each shape (start, length) of token segments one ordinary forward pass of one row is watched: what blocks get besides the
activations (masks, position embeddings, ..) serves every segment of that shape and every number of rows, since it
broadcasts over the batch. Where a block was handed a cache, the caller's stand-in takes its place later.

What blocks are handed seldom depends on what they compute. Where watching a pass whose blocks do nothing gives the very same
as an ordinary one, once at the beginning of a prompt and once after other tokens, the other shapes are watched that way, which
costs next to nothing; in a model where it does not, ordinary passes are watched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from refusal_lens.model import LensModel, hidden_input, hidden_output, is_out_of_memory
from refusal_lens.model.cache import holding
from refusal_lens.model.lens import LAST

log = logging.getLogger(__name__)

UNSUPPORTED = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError, AssertionError)
"""What a model raises that cannot be run this way."""


class Slot:
    """Marks where a block's arguments hold a cache."""


@dataclass(frozen=True, eq=False)
class Call:
    """How blocks are called for segments of one shape: arguments besides the activations, by layer."""

    arguments: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])
    keywords: list[dict[str, object]] = field(default_factory=list[dict[str, object]])

    def run(self, block: nn.Module, layer: int, hidden: Tensor, keys: object) -> Tensor:
        """A block's output [row, seq, d_model].

        Args:
            block: The block.
            layer: Its number.
            hidden: Its input.
            keys: In place of its cache; None for no cache.

        Returns:
            What it adds up to.
        """
        named = {name: keys if isinstance(value, Slot) else value for name, value in self.keywords[layer].items()}
        placed = [keys if isinstance(value, Slot) else value for value in self.arguments[layer]]
        found = hidden_output(block(hidden, *placed, **named))
        assert found is not None, "a block returns activations"
        return found

    def equals(self, other: Call) -> bool:
        """Whether another call hands every block the same."""
        return _same(self.arguments, other.arguments) and _same(self.keywords, other.keywords)


@dataclass(eq=False)
class Calls:
    """How a model calls its blocks, by (start, length).

    Attributes:
        model: The model.
        found: What has been watched.
    """

    model: LensModel
    found: dict[tuple[int, int], Call] = field(default_factory=dict[tuple[int, int], Call])
    _idle: dict[bool, bool] = field(default_factory=dict[bool, bool], init=False)
    _wrapped: list[bool | None] = field(default_factory=list["bool | None"], init=False)
    _known: dict[int, dict[str, Cache]] = field(default_factory=dict[int, dict[str, Cache]], init=False)

    def watch(self, tokens: Sequence[int], before: Sequence[int]) -> Call:
        """How blocks are called for some tokens after others.

        Args:
            tokens: A segment.
            before: What comes before it in its prompt.

        Returns:
            Arguments of every block.
        """
        shape = (len(before), len(tokens))
        if shape not in self.found:
            self.found[shape] = self._watch(tokens, before)
        return self.found[shape]

    def _watch(self, tokens: Sequence[int], before: Sequence[int]) -> Call:
        after = bool(before)
        if self._idle.get(after):
            return self._observed(tokens, before, idle=True)
        call = self._observed(tokens, before, idle=False)
        if after not in self._idle:
            self._idle[after] = self._same_when_idle(call, tokens, before)
        return call

    def _same_when_idle(self, call: Call, tokens: Sequence[int], before: Sequence[int]) -> bool:
        if None in self._wrapped:
            return False
        try:  # twice: a pass must leave nothing behind in the cache that the next one reads
            return all(call.equals(self._observed(tokens, before, idle=True)) for _ in range(2))
        except UNSUPPORTED as error:
            if is_out_of_memory(error):
                raise
            log.info("blocks that do nothing are not supported here: %s", error)
            return False

    @torch.no_grad()
    def _observed(self, tokens: Sequence[int], before: Sequence[int], *, idle: bool) -> Call:
        """Arguments blocks get in a forward pass, up to those of the last one."""
        call = Call()
        blocks = [block.module for block in self.model.layout.blocks]
        known = self._before(before) if idle else self._read(before)

        def note(_module: nn.Module, given: tuple[object, ...], named: dict[str, object]) -> None:
            if not given:
                named = {name: value for name, value in named.items() if name != "hidden_states"}
            call.arguments.append(tuple(Slot() if _is_cache(value) else value for value in given[1:]))
            call.keywords.append({name: Slot() if _is_cache(value) else value for name, value in named.items()})
            if len(call.arguments) == len(blocks):
                raise _Enough

        def look(_module: nn.Module, _given: object, output: object) -> None:
            self._wrapped.append(_is_wrapped(output))

        with ExitStack() as stack:
            for block in blocks:
                stack.callback(block.register_forward_pre_hook(note, with_kwargs=True).remove)
            if idle:
                for block, wrapped in zip(blocks, self._wrapped, strict=False):
                    stack.enter_context(_doing_nothing(block, wrapped=bool(wrapped)))
            elif not self._wrapped:
                for block in blocks:
                    stack.callback(block.register_forward_hook(look).remove)
            self._run(tokens, len(before), known)
        return call

    def _before(self, before: Sequence[int]) -> dict[str, Cache]:
        """A cache that holds as many tokens; blocks that do nothing do not change it."""
        if len(before) not in self._known:
            self._known[len(before)] = self._read(before)
        return self._known[len(before)]

    def _read(self, before: Sequence[int]) -> dict[str, Cache]:
        if not before:
            return {}
        known = holding(self.model.hf, DynamicCache(config=self.model.hf.config))
        self._run(before, 0, known)
        return known

    def _run(self, tokens: Sequence[int], start: int, known: dict[str, Cache]) -> None:
        ids = torch.tensor([list(tokens)], device=self.model.device)
        positions = torch.arange(start, start + len(tokens), device=self.model.device)[None]
        with suppress(_Enough):
            self.model.hf(input_ids=ids, position_ids=positions, use_cache=True, logits_to_keep=LAST, **known)


def entering(model: LensModel, ids: Tensor, start: int) -> Tensor:
    """What enters the first block.

    Args:
        model: The model.
        ids: Tokens [row, seq].
        start: Position of the first ones.

    Returns:
        Activations [row, seq, d_model].
    """
    found: list[Tensor] = []

    def stop(_module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
        hidden = hidden_input(arguments, keywords)
        assert hidden is not None, "a block is called with activations"
        found.append(hidden)
        raise _Enough

    handle = model.layout.blocks[0].module.register_forward_pre_hook(stop, with_kwargs=True)
    positions = torch.arange(start, start + ids.shape[1], device=ids.device).expand(ids.shape)
    try:
        with suppress(_Enough):
            model.hf(input_ids=ids, position_ids=positions, use_cache=False)
    finally:
        handle.remove()
    return found[0]


class _Enough(Exception):
    """Raised at a block, when what was wanted is known."""


@contextmanager
def _doing_nothing(block: nn.Module, *, wrapped: bool) -> Generator[None, None, None]:
    """A block that returns the activations it is given, in a tuple where it wraps them in one."""

    def forward(*arguments: object, **keywords: object) -> object:
        hidden = hidden_input(arguments, keywords)
        return (hidden,) if wrapped else hidden

    own: Callable[..., object] | None = vars(block).get("forward")
    setattr(block, "forward", forward)  # noqa: B010 (a module's own method, in its place)
    try:
        yield
    finally:
        if own is None:
            delattr(block, "forward")
        else:
            setattr(block, "forward", own)  # noqa: B010


def _is_wrapped(output: object) -> bool | None:
    """Whether a block returns its activations in a tuple of their own; None where it returns more."""
    if isinstance(output, Tensor):
        return False
    return True if isinstance(output, tuple) and len(output) == 1 else None


def _is_cache(value: object) -> bool:
    """Whether a block's argument collects keys and values."""
    return callable(getattr(value, "update", None)) and not isinstance(value, dict)


def _same(one: object, two: object) -> bool:
    """Whether two arguments are the same numbers in the same form; of what cannot be compared, only the same object is."""
    if one is two:
        return True
    if type(one) is not type(two):
        return False
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, list | tuple):
        some, others = cast("Sequence[object]", one), cast("Sequence[object]", two)
        return len(some) == len(others) and all(map(_same, some, others))
    if isinstance(one, dict):
        named, given = cast("Mapping[str, object]", one), cast("Mapping[str, object]", two)
        return named.keys() == given.keys() and all(_same(value, given[name]) for name, value in named.items())
    return isinstance(one, Slot) or (isinstance(one, str | int | float) and one == two)
