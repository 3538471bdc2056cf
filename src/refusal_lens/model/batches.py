"""Prompts of different lengths as padded batches, and batches that shrink when memory runs out.

Rows are sorted by length, longest first (what does not fit shows at once), padded on the left, and carry explicit
position ids counted from the first real token: models with learned positions are wrong without them. A batch without
padding carries no mask, which is faster. The batch size changes how numbers are computed and, in full precision, none of
them; in 16-bit formats it changes their last digits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar, runtime_checkable
from weakref import WeakSet

import torch
from jaxtyping import Int
from torch import Tensor

from refusal_lens.errors import ModelError

log = logging.getLogger(__name__)

BatchSize: TypeAlias = int | Literal["auto"]
Result = TypeVar("Result")

CPU_TOKENS = 4096
ACCELERATOR_TOKENS = 32768
WASTE = {"cpu": 64}
ACCELERATOR_WASTE = 2048
"""Padding tokens that cost less than one more pass does: its weights are read from memory again."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Prompts padded on the left to one length.

    Attributes:
        rows: Index of each row among all prompts.
        input_ids: Token ids; padding is `pad`.
        attention_mask: 1 at real tokens, None when nothing is padded.
        position_ids: 0 at the first real token of each row (and before it).
    """

    rows: tuple[int, ...]
    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"] | None
    position_ids: Int[Tensor, "batch seq"]


def padded(token_ids: Sequence[Sequence[int]], rows: Sequence[int], *, pad: int, device: torch.device) -> Batch:
    """Make one batch.

    Args:
        token_ids: Ids of all prompts, none empty.
        rows: Which of them, in this order.
        pad: Id used for padding.
        device: Where the tensors go.

    Returns:
        The batch.
    """
    width = max(len(token_ids[row]) for row in rows)
    lacking = [width - len(token_ids[row]) for row in rows]
    ids = on_device([[pad] * few + list(token_ids[row]) for few, row in zip(lacking, rows, strict=True)], device)
    missing = on_device(lacking, device).unsqueeze(1)
    columns = torch.arange(width, device=device).unsqueeze(0)
    positions = (columns - missing).clamp_min(0)
    mask = (columns >= missing).long() if any(lacking) else None
    return Batch(tuple(rows), ids, mask, positions)


def on_device(numbers: Sequence[object], device: torch.device) -> Tensor:
    """Whole numbers as a tensor on a device, without waiting for what a GPU is doing: from pinned memory, copied behind it.

    Args:
        numbers: Numbers, or lists of them.
        device: Where they go.

    Returns:
        int64.
    """
    made = torch.tensor(numbers, dtype=torch.long)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


def token_budget(device: torch.device) -> int:
    """Padded tokens of one forward pass that use a device well without much memory."""
    return CPU_TOKENS if device.type == "cpu" else ACCELERATOR_TOKENS


def chunks(lengths: Sequence[int], batch_size: BatchSize, *, tokens: int, most: int = 1024) -> Iterator[list[int]]:
    """Row indices of each batch, longest rows first.

    Args:
        lengths: Tokens of each prompt.
        batch_size: Rows of a batch, or "auto" for as many as `tokens` allows.
        tokens: Padded tokens of a batch under "auto".
        most: Most rows of a batch under "auto".

    Yields:
        Row indices.

    Raises:
        ValueError: The batch size is not positive.
    """
    if batch_size != "auto" and batch_size < 1:
        raise ValueError(f"batch_size must be a positive number or 'auto', not {batch_size}")
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    start = 0
    while start < len(order):
        size = batch_size if batch_size != "auto" else max(1, min(most, tokens // max(1, lengths[order[start]])))
        yield order[start : start + size]
        start += size


def like_lengths(lengths: Sequence[int], *, tokens: int, waste: int, rows: int | None = None) -> Iterator[list[int]]:
    """Row indices of each pass, longest rows first: a new pass begins where padding would cost more than a pass does.

    Args:
        lengths: Tokens of each prompt.
        tokens: Most tokens of a pass, padding included; a longer prompt is a pass of its own.
        waste: Most tokens of padding in a pass.
        rows: Most rows of a pass, in place of `tokens`.

    Yields:
        Row indices; rows of one length in their given order.
    """
    group: list[int] = []
    lost = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if group:
            longest = lengths[group[0]]
            lost += longest - lengths[row]
            size = tokens // max(1, longest) if rows is None else rows
            if lost > waste or len(group) >= size:
                yield group
                group, lost = [], 0
        group.append(row)
    if group:
        yield group


def passes(lengths: Sequence[int], device: torch.device, *, tokens: int | None = None) -> Iterator[list[int]]:
    """Row indices of passes of like length that suit a device, longest rows first.

    Args:
        lengths: Tokens of each prompt.
        device: Where the passes run.
        tokens: Most tokens of a pass; None for what suits the device.

    Yields:
        Row indices.
    """
    budget = token_budget(device) if tokens is None else tokens
    yield from like_lengths(lengths, tokens=budget, waste=WASTE.get(device.type, ACCELERATOR_WASTE))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: CUDA's own class, or a CPU allocator's text."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "cannot allocate memory" in text
    )


def run_shrinking(groups: Iterator[list[int]], compute: Callable[[list[int]], Result]) -> Iterator[Result]:
    """Compute group after group; where memory runs out, halve it and all that follow, and keep what is finished.

    Args:
        groups: Row indices of each batch.
        compute: Computes one batch; may raise an out-of-memory error.

    Yields:
        The results.

    Raises:
        ModelError: A single row does not fit.
    """
    limit: int | None = None
    for group in groups:
        pending = [group]
        while pending:
            rows = pending.pop()
            if limit is not None and len(rows) > limit:
                pending.extend(reversed([rows[start : start + limit] for start in range(0, len(rows), limit)]))
                continue
            try:
                result = compute(rows)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                given = forget_held()  # what was kept for speed may have made it too much
                if len(rows) == 1 and not given:
                    raise ModelError(
                        "out of memory with a single prompt; use a smaller dtype, shorter prompts or a larger device"
                    ) from error
                if not given:
                    limit = len(rows) // 2
                    log.warning("out of memory with %d prompts; going on with %d", len(rows), limit)
                pending.append(rows)
            else:
                yield result
                continue
            release_memory()


@runtime_checkable
class Holder(Protocol):
    """Something that keeps memory between calls to be faster, and can do without."""

    def forget(self) -> bool:
        """Give it back; whether there was any."""
        ...

    def held_bytes(self) -> int:
        """How much it keeps."""
        ...


HOLDERS: WeakSet[Holder] = WeakSet()


def free_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that an allocation can have: what nobody holds, and what is held here and not needed."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held + sum(holder.held_bytes() for holder in HOLDERS)


def forget_held() -> bool:
    """Have everything forgotten that is kept between calls; whether there was any."""
    given = [holder.forget() for holder in list(HOLDERS)]
    return any(given)


def release_memory() -> None:
    """Give kept and cached memory back after a failed allocation."""
    forget_held()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
