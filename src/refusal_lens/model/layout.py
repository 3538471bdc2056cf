"""Where a decoder's parts are, found by watching one small forward pass instead of by the names of model families.

1. The decoder blocks are the module list whose items a text prompt runs through once each, in order.
2. Within a block, a child that has children of its own (or matrices) carries the computation: the first one that runs
   mixes tokens (attention), the others are the MLP (or its experts).
3. What a child reads and returns is followed by memory address. A child reading nothing another child returned reads
   the residual stream (a reader); a chain of children whose last output no child reads is added to it (a write).
   A norm at the end of a chain is a post-norm.

The layout says nothing about weights (see `folding`) and proves nothing: `doctor` measures that what it found is right.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from refusal_lens.errors import ModelError

SAME_SUM = 0.02
"""Share of its norm by which a sum, taken again, may differ: bfloat16 rounds at 2^-9."""
Norms: TypeAlias = Literal["pre-norm", "post-norm", "sandwich-norm"]


@dataclass(frozen=True, eq=False)
class Block:
    """One decoder block.

    Attributes:
        module: The block.
        attention: Its token mixer.
        mlp: Its other carriers of computation; usually one.
        attention_write: Module whose output is added to the residual stream for the mixer: itself or a post-norm.
        mlp_write: The same for each of `mlp`.
        readers: Modules that read the residual stream: norms before attention and MLP, or these themselves.
        parallel: Whether the MLP reads the block's input rather than what attention wrote.
    """

    module: nn.Module
    attention: nn.Module
    mlp: tuple[nn.Module, ...]
    attention_write: nn.Module
    mlp_write: tuple[nn.Module, ...]
    readers: tuple[nn.Module, ...]
    parallel: bool

    @property
    def post_norm(self) -> bool:
        """Whether a norm stands between a module's output and the residual stream."""
        return self.attention_write is not self.attention or self.mlp_write != self.mlp

    @property
    def pre_norm(self) -> bool:
        """Whether attention reads through a norm."""
        return self.attention not in self.readers


@dataclass(frozen=True, eq=False)
class Layout:
    """Parts of a decoder.

    Attributes:
        blocks: Decoder blocks in order.
        embedding: Token embedding.
        final_norm: Norm that reads the last block's output, None where there is none.
        embeddings: Every embedding module that runs outside the blocks (token, learned positions).
        d_model: Width of the residual stream.
    """

    blocks: tuple[Block, ...]
    embedding: nn.Module
    final_norm: nn.Module | None
    embeddings: tuple[nn.Embedding, ...]
    d_model: int

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.blocks)

    @property
    def readers(self) -> tuple[tuple[int, nn.Module], ...]:
        """Every module that reads the residual stream, with its layer; the final norm's is the number of layers."""
        final = [] if self.final_norm is None else [(self.n_layers, self.final_norm)]
        return (*((layer, reader) for layer, block in enumerate(self.blocks) for reader in block.readers), *final)

    @property
    def name(self) -> str:
        """`pre-norm`, `post-norm` or `sandwich-norm`, with `parallel` where attention and MLP read the same stream."""
        post, pre = any(block.post_norm for block in self.blocks), any(block.pre_norm for block in self.blocks)
        norms: Norms = "sandwich-norm" if post and pre else "post-norm" if post else "pre-norm"
        return f"parallel {norms}" if all(block.parallel for block in self.blocks) else norms

    @property
    def post_norm(self) -> bool:
        """Whether any block normalises before writing to the residual stream."""
        return any(block.post_norm for block in self.blocks)


@dataclass(frozen=True, eq=False)
class Event:
    """One call of a module: what it read and what it returned."""

    module: nn.Module
    read: Tensor
    returned: Tensor


def locate(network: nn.Module, forward: Callable[[], object], *, n_layers: int | None) -> Layout:
    """Find the parts of a decoder by watching a forward pass.

    Args:
        network: The whole model.
        forward: Runs it on a short text prompt.
        n_layers: Number of decoder blocks its configuration states, where it states one.

    Returns:
        The layout.

    Raises:
        ModelError: No stack of decoder blocks was found.
    """
    lists = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 0 and (n_layers is None or len(module) == n_layers)
    }
    watched = {child for blocks in lists.values() for block in blocks for child in (block, *block.children())}
    watched |= {child for name in lists for child in network.get_submodule(name.rpartition(".")[0]).children()}
    watched |= {module for module in network.modules() if isinstance(module, nn.Embedding)}
    with watching(watched) as events:
        forward()
    candidates = [blocks for blocks in lists.values() if _runs_in_order(list(blocks), events)]
    if not candidates:
        raise ModelError(
            f"found no stack of decoder blocks in {type(network).__name__}; is it a causal language model?"
        )
    blocks = list(max(candidates, key=len))
    read_of = {event.module: event for event in events}
    last = read_of[blocks[-1]].returned
    inside = {module for block in blocks for module in block.modules()}
    outside = [event for event in events if event.module not in inside]
    d_model = int(read_of[blocks[0]].read.shape[-1])
    embeddings = tuple(event.module for event in outside if isinstance(event.module, nn.Embedding))
    token_embedding = network.get_input_embeddings() if hasattr(network, "get_input_embeddings") else None  # pyright: ignore[reportCallIssue]
    if not isinstance(token_embedding, nn.Module):
        raise ModelError(f"{type(network).__name__} has no token embedding")
    return Layout(
        blocks=tuple(_block(block, events) for block in blocks),
        embedding=token_embedding,
        final_norm=next(
            (event.module for event in outside if same_memory(event.read, last) and not any(event.module.children())),
            None,
        ),
        embeddings=embeddings,
        d_model=d_model,
    )


def hidden_input(arguments: tuple[object, ...], keywords: dict[str, object]) -> Tensor | None:
    """The activations a module was called with: its first positional tensor, else its `hidden_states` or first keyword tensor."""
    if arguments and isinstance(arguments[0], Tensor):
        return arguments[0]
    named = keywords.get("hidden_states")
    if isinstance(named, Tensor):
        return named
    return next((value for value in keywords.values() if isinstance(value, Tensor)), None)


def hidden_output(output: object) -> Tensor | None:
    """The activations a module returned: the tensor itself or the first of a tuple."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


@contextmanager
def watching(modules: set[nn.Module]) -> Generator[list[Event], None, None]:
    """Note every call of some modules inside the context.

    Args:
        modules: The modules to watch.

    Yields:
        The calls so far, in the order they returned; growing.
    """
    events: list[Event] = []

    def note(module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object], output: object) -> None:
        read, returned = hidden_input(arguments, keywords), hidden_output(output)
        if read is not None and returned is not None:
            events.append(Event(module, read, returned))

    with ExitStack() as stack, torch.no_grad():
        for module in modules:
            stack.callback(module.register_forward_hook(note, with_kwargs=True).remove)
        yield events


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one memory: views and reshapes of each other, or edited in place in between."""
    return one.data_ptr() == other.data_ptr() and one.numel() == other.numel() and one.dtype == other.dtype


def _runs_in_order(blocks: Sequence[nn.Module], events: Sequence[Event]) -> bool:
    members = set(blocks)
    ran = [event for event in events if event.module in members]
    return [event.module for event in ran] == list(blocks) and all(
        event.read.ndim == 3 and event.read.shape == ran[0].read.shape for event in ran
    )


def _block(module: nn.Module, events: Sequence[Event]) -> Block:
    own = next(event for event in events if event.module is module)
    children = set(module.children())
    steps = [event for event in events if event.module in children and not _identity(event)]
    source = {
        id(step): next((other for other in reversed(steps[:index]) if same_memory(other.returned, step.read)), None)
        for index, step in enumerate(steps)
    }
    carriers = [step for step in steps if _carries(step.module)]
    if not carriers:
        raise ModelError(f"a decoder block ({type(module).__name__}) has no attention or MLP module")

    def origin(step: Event) -> Event:
        """The last carrier upstream of a step (itself where it is one)."""
        while not _carries(step.module) and (before := source[id(step)]) is not None:
            step = before
        return step

    consumed = {id(before) for before in source.values() if before is not None}
    width = own.read.shape[-1]  # narrower: a router's logits, a gate on per-layer embeddings
    writes = [
        step
        for step in steps
        if id(step) not in consumed and _carries(origin(step).module) and step.returned.shape[-1] == width
    ]
    if not writes:
        raise ModelError(f"nothing in a decoder block ({type(module).__name__}) is as wide as the residual stream")
    first = next((write for write in writes if origin(write) is carriers[0]), writes[0])
    others = [write for write in writes if write is not first]
    last, summed = _norm_of_sum(steps, others, source, consumed)
    single = [write for write in others if not any(write is part for part in summed)]
    readers = [step for step in steps if source[id(step)] is None and step.read.shape[-1] == width and step is not last]
    reads_input = [step for step in readers if same_memory(step.read, own.read)]
    feeding = [_root(origin(write), source) for write in others]
    return Block(
        module=module,
        attention=origin(first).module,
        mlp=tuple(
            origin(write).module
            for write in others
            if write.returned.ndim == own.read.ndim or any(write is one for one in single)
        ),
        attention_write=first.module,
        mlp_write=(*(() if last is None else (last.module,)), *(write.module for write in single)),
        readers=tuple(dict.fromkeys(step.module for step in readers)),
        parallel=bool(others) and all(step in reads_input for step in feeding),
    )


def _norm_of_sum(
    steps: Sequence[Event], writes: Sequence[Event], source: dict[int, Event | None], consumed: set[int]
) -> tuple[Event | None, list[Event]]:
    """A norm that reads the sum of an MLP and of experts beside it (Gemma 4), which no child returned: it writes, for both.

    Told by the numbers: a norm at the end reads the residual stream or this sum, and the two look alike from outside.
    Returns it with the writes that it sums; None where there is none.
    """
    for index, step in enumerate(steps):
        ran = {id(earlier) for earlier in steps[:index]}
        parts = [write for write in writes if id(write) in ran and write.returned.numel() == step.read.numel()]
        if source[id(step)] is None and id(step) not in consumed and not _carries(step.module) and len(parts) > 1:
            total = torch.stack([part.returned.reshape(step.read.shape).float() for part in parts]).sum(0)
            if float((step.read.float() - total).norm()) <= SAME_SUM * float(total.norm()):
                return step, parts
    return None, []


def _root(step: Event, source: dict[int, Event | None]) -> Event:
    while (before := source[id(step)]) is not None:
        step = before
    return step


def _identity(event: Event) -> bool:
    """A dropout at rest returns what it was given."""
    return same_memory(event.read, event.returned) and not any(event.module.children())


def _carries(module: nn.Module) -> bool:
    """Whether a module computes rather than normalises: it has parts of its own, or a matrix."""
    return any(module.children()) or any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
