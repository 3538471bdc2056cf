"""What a monitor reads of a model: the residual stream at a few places of every prompt, or at one layer while it writes.

A prompt is one user message or a whole chat. Positions are the instruction's last token and the template's last token. A
pass stops at the deepest layer that is asked for, so a score costs less than the prompt's own prefill.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from refusal_lens.errors import DataError
from refusal_lens.model import BatchSize, LensModel, hidden_input, run_shrinking
from refusal_lens.model.switch import DATE

Chat: TypeAlias = Sequence[Mapping[str, str]]
"""Messages with `role` and `content`, the user's last."""


class _Enough(Exception):
    """Raised by the hook of the deepest layer."""


def places_of(model: LensModel) -> tuple[int, int]:
    """Offsets from a prompt's end of the two places: the instruction's last token, and the template's."""
    return -(len(model.positions) + 1), -1


def chat_ids(model: LensModel, prompts: Sequence[str | Chat]) -> list[list[int]]:
    """Token ids of messages and chats in the model's own format, the assistant's turn opened.

    Args:
        model: The model.
        prompts: User messages, or chats whose last message is the user's.

    Returns:
        Ids without padding.

    Raises:
        DataError: A chat has no messages, or its template does not take them.
    """
    single = [text for text in prompts if isinstance(text, str)]
    rendered = iter(model.render(single))
    return [next(rendered) if isinstance(prompt, str) else _chat(model, prompt) for prompt in prompts]


def _chat(model: LensModel, chat: Chat) -> list[int]:
    messages = [dict(message) for message in chat]
    if not messages or not all(isinstance(message.get("content"), str) for message in messages):
        raise DataError("a chat is a list of messages, each with a role and a text as content")
    if len(messages) == 1 and messages[0].get("role") == "user":
        return model.render([messages[0]["content"]])[0]
    try:
        encoded = model.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
            date_string=DATE,
        )
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in {"jinja2", "builtins"}:
            raise
        raise DataError(f"the model's chat template does not take these messages ({error})") from None
    return cast("list[int]", encoded)


def read(
    model: LensModel,
    token_ids: Sequence[Sequence[int]],
    *,
    positions: Sequence[int],
    layers: Sequence[int],
    batch_size: BatchSize = "auto",
) -> Float32[np.ndarray, "prompt pos layer d_model"]:
    """Residual stream entering some layers at some positions of each prompt.

    Args:
        model: The model.
        token_ids: Rendered prompts.
        positions: Offsets from a prompt's end.
        layers: Which layers, ascending; the pass ends at the last of them.
        batch_size: Prompts of one pass, or "auto".

    Returns:
        float32, in input order.
    """
    found = np.zeros((len(token_ids), len(positions), len(layers), model.d_model), np.float32)

    def compute(rows: list[int]) -> tuple[list[int], Tensor]:
        seen: list[Tensor] = []
        with ExitStack() as hooks:
            for layer in layers:
                hooks.enter_context(_seeing(model, layer, seen, positions, last=layer == layers[-1]))
            with suppress(_Enough):
                model.logits(model.batch(token_ids, rows))
        return rows, torch.stack(seen, dim=2)

    for rows, activations in run_shrinking(iter(model.batches(token_ids, batch_size)), compute):
        found[rows] = activations.cpu().numpy()
    return found


@contextmanager
def _seeing(
    model: LensModel, layer: int, seen: list[Tensor], positions: Sequence[int], *, last: bool
) -> Generator[None]:
    def note(_module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
        hidden = hidden_input(arguments, keywords)
        assert hidden is not None, "a decoder block is called with hidden states"
        seen.append(hidden[:, list(positions)].to(device=model.device, dtype=torch.float32))
        if last:
            raise _Enough

    handle = model.layout.blocks[layer].module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


SMOOTHING = 0.3


@dataclass
class Stream:
    """Probabilities of a generation as it goes on: one array [row] for every forward pass, prefill first."""

    passes: list[np.ndarray]

    @property
    def smoothed(self) -> np.ndarray | None:
        """Exponential moving average over the passes so far, the newest with weight SMOOTHING; None before the first."""
        level: np.ndarray | None = None
        for probabilities in self.passes:
            level = probabilities if level is None else SMOOTHING * probabilities + (1 - SMOOTHING) * level
        return level


@contextmanager
def watching(model: LensModel, layer: int, weight: Tensor, told: Callable[[Tensor], None]) -> Generator[None]:
    """Tell the projection at the last position of every forward pass in this block: one dot product a row and pass.

    Args:
        model: The model.
        layer: Where to read.
        weight: float32 [d_model].
        told: Given one tensor [batch] a pass, on the layer's device.

    Yields:
        Nothing.
    """

    def note(_module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
        hidden = hidden_input(arguments, keywords)
        assert hidden is not None, "a decoder block is called with hidden states"
        told(hidden[:, -1].to(torch.float32) @ weight.to(hidden.device))

    handle = model.layout.blocks[layer].module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
