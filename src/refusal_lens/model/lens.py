"""A loaded chat model with everything the other rooms ask of it: its parts, its positions, where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from refusal_lens.errors import DataError
from refusal_lens.model.batches import Batch, BatchSize, chunks, padded, passes, token_budget
from refusal_lens.model.edit import Intervention
from refusal_lens.model.hooking import Hold, edited
from refusal_lens.model.layout import Layout
from refusal_lens.model.thoughts import opens_thoughts
from refusal_lens.model.tokens import PROBES, render

ENDS = 4
"""Tokens that are kept at either end of what all probes begin with."""
LAST = torch.tensor([-1])
"""Only the last position's logits. As a number, models that share keys between layers (Gemma 4) would leave out every other
position of their later blocks, which are recorded and measured here."""


@dataclass(frozen=True, slots=True)
class ModelProvenance:
    """What identifies a loaded model in a run's record.

    Attributes:
        spec: What the user named.
        revision: Commit of a hub model.
        digest: sha256 over its weight, configuration, tokenizer and template files.
        architecture: Class of the model.
        dtype: Number format it computes in, e.g. "float32".
        device: Where it computes.
        template_digest: sha256 of the chat template in use.
        versions: Versions of the libraries that decide its numbers.
        stored: How its weights are stored where not as plain numbers, e.g. "GGUF (Q4_1), dequantised"; None otherwise.
        adapter: Name and digest of the adapter merged into its weights, None without one.
        thinking: "on" or "off" where thinking was switched by the chat template's own switch, otherwise "auto".
        template: What its chat template does that is worth knowing, a sentence each.
    """

    spec: str
    revision: str | None
    digest: str
    architecture: str
    dtype: str
    device: str
    template_digest: str
    versions: dict[str, str] = field(default_factory=dict[str, str])
    stored: str | None = None
    adapter: str | None = None
    thinking: str = "auto"
    template: tuple[str, ...] = ()


@dataclass(eq=False, repr=False)
class LensModel:
    """A chat model ready to be looked into.

    Attributes:
        hf: The transformers model, in evaluation mode, without gradients.
        tokenizer: Its tokenizer, with a chat template.
        layout: Its parts.
        positions: Offsets from the end of the prompt (negative) of the tokens the template puts after the instruction.
        provenance: Where it comes from.
        end_ids: Tokens that end an answer.
        pad_id: Token used for padding.
        context: Most tokens it takes, None when not stated.
        kept: What loops keep between their calls to be faster; never part of a result.
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    layout: Layout
    positions: tuple[int, ...]
    provenance: ModelProvenance
    end_ids: tuple[int, ...]
    pad_id: int
    context: int | None
    kept: dict[str, object] = field(default_factory=dict[str, object])

    def __repr__(self) -> str:
        """The model in one line."""
        size = f"{self.n_layers} layers, d_model {self.d_model}"
        return f"LensModel({self.provenance.spec!r}, {size}, {self.provenance.dtype} on {self.provenance.device})"

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        return self.layout.n_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.layout.d_model

    @cached_property
    def device(self) -> torch.device:
        """Device of the token embedding: where inputs go."""
        return next(self.layout.embedding.parameters()).device

    @cached_property
    def _last(self) -> Tensor:
        """`LAST` on the model's one device: an index on another is copied, which waits for all that runs."""
        devices = {parameter.device for parameter in self.hf.parameters()}
        return LAST.to(self.device) if len(devices) == 1 else LAST

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the activations."""
        return self.hf.dtype

    def render(self, instructions: Sequence[str]) -> list[list[int]]:
        """Token ids of each instruction in the model's own chat format, the assistant's turn opened.

        Args:
            instructions: One user message each; special tokens in them are plain text.

        Returns:
            Ids without padding.
        """
        return render(self.tokenizer, instructions)

    def token_ids(self, instructions: Sequence[str]) -> list[list[int]]:
        """Rendered instructions, all of which fit the model.

        Args:
            instructions: One user message each.

        Returns:
            Ids without padding.

        Raises:
            DataError: A prompt is longer than the model's context; ask `too_long` first to skip such prompts.
        """
        rendered = self.render(instructions)
        if self.context is not None:
            for index, ids in enumerate(rendered):
                if len(ids) >= self.context:
                    raise DataError(
                        f"prompt {index} has {len(ids)} tokens, the model takes {self.context}; shorten or leave it out"
                    )
        return rendered

    def probes(self, count: int) -> list[list[int]]:
        """Token ids of the first probes, for checks of what the model does with any tokens.

        Of a long beginning that all have in common (a system prompt) only the ends are kept: more of it takes time and
        shows nothing more.

        Args:
            count: How many.

        Returns:
            Ids without padding, of different lengths.
        """
        rendered = self.render(PROBES)
        shortest = min(map(len, rendered))
        common = next((i for i in range(shortest) if len({ids[i] for ids in rendered}) > 1), shortest)
        dropped = range(ENDS, common - ENDS)
        return [[token for place, token in enumerate(ids) if place not in dropped] for ids in rendered[:count]]

    def opens_thoughts(self, instructions: Sequence[str]) -> list[bool]:
        """Whether the prompt of each instruction, as rendered, opens a block of thoughts: its answer begins inside it."""
        return [opens_thoughts(self.tokenizer, ids) for ids in self.render(instructions)]

    def too_long(self, instructions: Sequence[str]) -> list[int]:
        """Indices of the instructions that leave no room for an answer in the model's context."""
        if self.context is None:
            return []
        return [index for index, ids in enumerate(self.render(instructions)) if len(ids) >= self.context]

    def batch(self, token_ids: Sequence[Sequence[int]], rows: Sequence[int] | None = None) -> Batch:
        """Prompts padded on the left on the model's device, with mask (where needed) and position ids.

        Args:
            token_ids: Ids of all prompts.
            rows: Which of them; None for all.

        Returns:
            The batch.
        """
        return padded(token_ids, range(len(token_ids)) if rows is None else rows, pad=self.pad_id, device=self.device)

    def batches(
        self, token_ids: Sequence[Sequence[int]], batch_size: BatchSize = "auto", *, tokens: int | None = None
    ) -> list[list[int]]:
        """Row indices of length-sorted batches for single forward passes.

        Args:
            token_ids: Ids of all prompts.
            batch_size: Rows of a batch, or "auto" for batches of like length.
            tokens: Most tokens of a batch under "auto"; None for what suits the device.

        Returns:
            Row indices of each batch, longest prompts first.
        """
        lengths = [len(ids) for ids in token_ids]
        if batch_size == "auto":
            return list(passes(lengths, self.device, tokens=tokens))
        return list(chunks(lengths, batch_size, tokens=token_budget(self.device)))

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Logits [batch, vocab] of the token after each prompt, without a cache and without the other positions' logits.

        Args:
            batch: Prompts of one batch.

        Returns:
            Logits in the model's dtype, on its device.
        """
        return self.hf(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            logits_to_keep=self._last,
        ).logits[:, -1]

    def edited(
        self, interventions: Sequence[Intervention], *, hold: Hold | None = None
    ) -> AbstractContextManager[None]:
        """Context in which interventions act on every forward pass; see `interventions.intervening` and `hooking.edited`."""
        return edited(self.layout, interventions, dtype=self.dtype, hold=hold)
