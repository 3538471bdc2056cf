"""Single forward passes over many prompts: the residual stream entering every block, and next-token logits.

`record` streams: it holds one batch of activations at a time, stops the pass at the last block's input (nothing
deeper is ever read), and never computes logits. Both sort prompts by length and undo the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusal_lens.core.progress import tell
from refusal_lens.model.batches import BatchSize, run_shrinking
from refusal_lens.model.edit import Intervention
from refusal_lens.model.layout import Block, hidden_input
from refusal_lens.model.lens import LensModel

CPU_TOKENS = 640
"""Tokens of a recorded pass on a CPU: batches that stay in its caches are faster than large ones."""


class _Enough(Exception):
    """Raised by the last recording hook."""


def record(
    model: LensModel,
    instructions: Sequence[str],
    *,
    positions: Sequence[int] | None = None,
    batch_size: BatchSize = "auto",
    interventions: Sequence[Intervention] = (),
    deepest: int | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, "batch pos layer d_model"]]]:
    """Residual stream entering every block at some positions of each prompt.

    Args:
        model: The model.
        instructions: User messages.
        positions: Offsets from the prompt's end (negative); the post-instruction positions by default.
        batch_size: Prompts of one pass, or "auto".
        interventions: Active during the passes; what is recorded is what the blocks see. One with a direction per row takes
            the rows for the instructions, in input order.
        deepest: The last layer that is recorded, where the pass stops; the last block's by default.

    Yields:
        Row indices of a batch and its activations in float32, on the model's device. Layer L is the input of block L.
    """
    token_ids = model.token_ids(instructions)
    wanted = list(model.positions if positions is None else positions)
    blocks = model.layout.blocks[: None if deepest is None else deepest + 1]
    done = 0

    def read(rows: list[int]) -> tuple[list[int], Tensor]:
        with model.edited([item.rows(rows) for item in interventions]):  # a direction per prompt follows its prompt
            return rows, _record(model, token_ids, rows, wanted, blocks)

    most = CPU_TOKENS if model.device.type == "cpu" else None
    for rows, seen in run_shrinking(iter(model.batches(token_ids, batch_size, tokens=most)), read):
        done += len(rows)
        tell(done, len(token_ids), "prompts read")
        yield rows, seen


@torch.no_grad()
def _record(
    model: LensModel,
    token_ids: Sequence[Sequence[int]],
    rows: Sequence[int],
    positions: Sequence[int],
    blocks: Sequence[Block],
) -> Tensor:
    seen: list[Tensor] = []
    batch = model.batch(token_ids, rows)
    last = blocks[-1].module

    def note(module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
        hidden = hidden_input(arguments, keywords)
        assert hidden is not None, "a decoder block is called with hidden states"
        seen.append(hidden[:, positions].to(device=model.device, dtype=torch.float32))
        if module is last:
            raise _Enough

    with ExitStack() as stack:
        for block in blocks:
            stack.callback(block.module.register_forward_pre_hook(note, with_kwargs=True).remove)
        with suppress(_Enough):
            model.logits(batch)
    return torch.stack(seen, dim=2)


def stream(model: LensModel, token_ids: Sequence[Sequence[int]], layer: int) -> Float[Tensor, "prompt d_model"]:
    """Residual stream entering a block at the last token of some prompts, in one pass that stops there.

    Args:
        model: The model.
        token_ids: Rendered prompts.
        layer: The block.

    Returns:
        float32 on the model's device.
    """
    return _record(model, token_ids, range(len(token_ids)), [-1], model.layout.blocks[: layer + 1])[:, 0, layer]


def next_token_logits(
    model: LensModel,
    instructions: Sequence[str],
    *,
    interventions: Sequence[Intervention] = (),
    batch_size: BatchSize = "auto",
) -> Float[Tensor, "prompt vocab"]:
    """Logits of the first answer token of every prompt.

    Args:
        model: The model.
        instructions: User messages.
        interventions: Active during the passes. One with a direction per row takes the rows for the instructions.
        batch_size: Prompts of one pass, or "auto".

    Returns:
        float32 on the CPU, in input order.
    """
    token_ids = model.token_ids(instructions)
    rows_done: list[int] = []
    parts: list[Tensor] = []

    def read(rows: list[int]) -> tuple[list[int], Tensor]:
        with model.edited([item.rows(rows) for item in interventions]):
            return rows, model.logits(model.batch(token_ids, rows)).float().cpu()

    for rows, logits in run_shrinking(iter(model.batches(token_ids, batch_size)), read):
        rows_done.extend(rows)
        parts.append(logits)
        tell(len(rows_done), len(token_ids), "prompts read")
    if not parts:
        return torch.empty(0, model.hf.config.get_text_config().vocab_size)
    return torch.cat(parts)[torch.argsort(torch.tensor(rows_done))]
