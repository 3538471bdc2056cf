"""Run decoder blocks directly, many candidates at once, computing nothing twice.

Compared with whole forward passes (`batched`):
- what prompts begin with in common is run once per candidate; its keys and values serve every prompt (`prefix_cache`);
- an added direction starts at its own layer from the recorded input of the unchanged model: the batch grows layer by layer;
- in the last block the MLP runs for the last token only, and so do the final norm and the head.

Rows are candidate-major: candidate c on segment i of a group is row c * n + i. Segments of one group agree in start and
length, so nothing is padded and one recorded call serves all of them (`prefix_cache`). `passes_for` proves the result equal
to the model's own forward pass before it is used; unsupported models fail there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusal_lens.directions.prefix_cache import Group, Keys, KeyValue, PrefixCache, gather, grow, kept
from refusal_lens.directions.prefix_calls import Calls
from refusal_lens.interventions import Ablation
from refusal_lens.model import LensModel, hidden_input
from refusal_lens.model.attention import short_attention


class PrefixWalk:
    """Segments of fixed prompts, and the walk of candidates over them."""

    def __init__(
        self,
        model: LensModel,
        token_ids: Sequence[Sequence[int]],
        *,
        share: bool = True,
        last_only: bool = True,
        direct_head: bool = True,
    ) -> None:
        """Cut the prompts and record the unchanged model.

        Args:
            model: The model.
            token_ids: Rendered prompts.
            share: Run common beginnings once.
            last_only: Run the last block's MLP for the last token only.
            direct_head: Call final norm and head directly instead of through the model's own forward method.
        """
        self._model = model
        self._blocks = [block.module for block in model.layout.blocks]
        self._last_only = last_only
        self._direct_head = direct_head
        self._segments = grow(token_ids, share=share)
        self._clean = PrefixCache(model, self._segments, Calls(model))
        with short_attention():
            for group in self._groups(range(len(self._segments)), 1, 1 << 30):
                self._clean.add(group)

    def key_bytes(self) -> int:
        """Memory of one candidate's keys and values of all inner segments, in bytes."""
        return sum(
            tensor.numel() * tensor.element_size()
            for layers in self._clean.keys.values()
            for pair in layers
            for tensor in pair
        )

    @torch.no_grad()
    def plain(self, prompts: Sequence[int]) -> Float[Tensor, "prompt vocab"]:
        """Logits of prompts without intervention.

        Args:
            prompts: Which.

        Returns:
            In their order.
        """
        return self._head(torch.stack([self._clean.ends[prompt] for prompt in prompts]))

    @torch.no_grad()
    def walk(
        self,
        vectors: Float[Tensor, "candidate d_model"],
        layers: Sequence[int] | None,
        prompts: Sequence[int],
        *,
        tokens: int,
        consume: Callable[[list[int], Tensor], None],
    ) -> None:
        """Run candidates on prompts.

        Args:
            vectors: Candidates, raw, on the model's device.
            layers: Ascending layer of each candidate to add it at; None to ablate it everywhere.
            prompts: Prompts to run each on.
            tokens: About how many tokens a pass may hold.
            consume: Given the prompts of a group and logits [candidate, prompt of the group, vocab].
        """
        keys: dict[int, list[KeyValue]] = {}
        for group in self._groups(self._needed(prompts), len(vectors), tokens):
            n = len(group.members)
            with short_attention(), ExitStack() as stack:
                if layers is None:
                    stack.enter_context(self._model.edited([Ablation(vectors.repeat_interleave(n, dim=0))]))
                last, own = self._run(group, vectors, layers, keys)
            ends: list[tuple[int, int]] = []
            for place, index in enumerate(group.members):
                prompt = self._segments[index].prompt
                if prompt is None:
                    keys[index] = [
                        (one.unflatten(0, (-1, n))[:, place], two.unflatten(0, (-1, n))[:, place]) for one, two in own
                    ]
                else:
                    ends.append((place, prompt))
            if ends:
                finals = last.unflatten(0, (len(vectors), n))[:, [place for place, _ in ends]]
                logits = self._head(finals.flatten(0, 1)).unflatten(0, (len(vectors), len(ends)))
                consume([prompt for _, prompt in ends], logits)

    def _needed(self, prompts: Sequence[int]) -> list[int]:
        """Segments that some prompts consist of, parents before children."""
        wanted = set(prompts)
        found: set[int] = set()
        for index, segment in enumerate(self._segments):
            if segment.prompt in wanted:
                step: int | None = index
                while step is not None and step not in found:
                    found.add(step)
                    step = self._segments[step].parent
        return sorted(found)

    def _run(
        self, group: Group, vectors: Tensor, layers: Sequence[int] | None, keys: dict[int, list[KeyValue]]
    ) -> tuple[Tensor, list[KeyValue]]:
        """One group through all blocks: last token's activations [row, 1, d_model], and keys where inner segments need them."""
        call = self._clean.calls.found[group.start, group.length]
        members = [self._segments[index] for index in group.members]
        parents = [segment.parent for segment in members if segment.parent is not None]
        inner = [index for index in group.members if self._segments[index].prompt is None]
        joins = [0] * len(vectors) if layers is None else list(layers)
        hidden: Tensor | None = None
        own: list[KeyValue] = []
        for layer, block in enumerate(self._blocks):
            new = [candidate for candidate, start in enumerate(joins) if start == layer]
            if new:
                rows = torch.stack([self._clean.inputs[index][layer] for index in group.members]).repeat(len(new), 1, 1)
                if layers is not None:
                    step = vectors[new].repeat_interleave(len(group.members), dim=0)
                    rows = (rows.float() + step.float().unsqueeze(1)).to(rows.dtype)
                hidden = rows if hidden is None else torch.cat([hidden, rows])
            if hidden is None:  # nobody has joined yet: keys of no row keep the layers in step
                own += [(one[:0], two[:0]) for one, two in [self._clean.keys[index][layer] for index in inner[:1]]]
                continue
            cache = Keys(gather([keys[parent][layer] for parent in parents]))
            with ExitStack() as stack:
                if self._last_only and layer == len(self._blocks) - 1 and hidden.shape[1] > 1:
                    for module in self._model.layout.blocks[layer].mlp:
                        stack.callback(module.register_forward_pre_hook(_keep_last, with_kwargs=True).remove)
                hidden = call.run(block, layer, hidden, cache if parents or inner else None)
            if inner:
                own.append(kept(cache))
        assert hidden is not None, "every candidate joins at some layer"
        return hidden[:, -1:], own

    def _head(self, last: Float[Tensor, "row 1 d_model"]) -> Float[Tensor, "row vocab"]:
        """Logits from what the last block returns."""
        norm, head = self._model.layout.final_norm, self._model.hf.get_output_embeddings()
        if self._direct_head and norm is not None and head is not None:
            return head(norm(last))[:, -1]

        def replace(_module: nn.Module, _arguments: object, output: object) -> object:
            return (last, *output[1:]) if isinstance(output, tuple) else last

        handle = self._blocks[-1].register_forward_hook(replace)
        try:
            token = torch.tensor([[self._model.pad_id]], device=self._model.device)
            return self._model.hf(input_ids=token, use_cache=False).logits[:, -1]
        finally:
            handle.remove()

    def _groups(self, indices: Sequence[int], candidates: int, tokens: int) -> Iterator[Group]:
        """Segments by (start, length), parents before children, split where a pass would grow too large."""
        shapes: dict[tuple[int, int], list[int]] = {}
        for index in indices:
            segment = self._segments[index]
            shapes.setdefault((segment.start, len(segment.tokens)), []).append(index)
        for (start, length), members in sorted(shapes.items(), key=lambda item: item[0]):
            size = max(1, tokens // (candidates * length))
            for first in range(0, len(members), size):
                yield Group(members[first : first + size], start, length)


def _keep_last(
    module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Pass on the last token only; added to the stream, the result is right there and ignored everywhere else."""
    hidden = hidden_input(arguments, keywords)
    if hidden is None or hidden.ndim != 3:
        raise TypeError(f"{type(module).__name__} does not read [batch, seq, d_model]")
    if arguments:
        return (hidden[:, -1:], *arguments[1:]), keywords
    name = next(name for name, value in keywords.items() if value is hidden)
    return arguments, {**keywords, name: hidden[:, -1:]}
