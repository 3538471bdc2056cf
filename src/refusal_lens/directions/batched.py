"""Score many candidates in one forward pass: every row of a batch is one (candidate, prompt) pair with its own direction.

Prompts of one length share a batch, so that nothing is padded and no mask is needed; where few rows are left for a length, on
an accelerator those of the next shorter ones join them, since a pass there takes longer to launch than some padding to compute.
Directions of several layers are added in one pass, rows of other layers getting zeros. Only last-position logits are
computed and no key/value cache is kept. This path uses nothing but the model's own forward pass and runs on every
architecture; `prefix_passes` is faster where it can be proved equal to this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.interventions import Ablation, Addition
from refusal_lens.model import BatchSize, Intervention, LensModel, run_shrinking
from refusal_lens.model.batches import like_lengths, on_device

CPU_TOKENS = 4096
ACCELERATOR_TOKENS = 65536
WASTE = {"cpu": 0}
ACCELERATOR_WASTE = 1024
"""Padded tokens that cost less than one more pass does."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of work: which candidate on which prompt."""

    candidate: int
    prompt: int


@dataclass(frozen=True, eq=False)
class Answered:
    """Next-token logits [row, vocab] of a batch of pairs."""

    pairs: list[Pair]
    logits: Tensor


class BatchedPasses:
    """Forward passes over (candidate, prompt) pairs by the model's own forward method."""

    def __init__(self, model: LensModel, token_ids: Sequence[Sequence[int]], *, batch_size: BatchSize = "auto") -> None:
        """Remember the prompts.

        Args:
            model: The model.
            token_ids: Rendered prompts; pairs name them by index.
            batch_size: Rows of one pass, or "auto".
        """
        self._model = model
        self._ids = token_ids
        self._batch_size: BatchSize = batch_size

    def plain(self) -> Float[Tensor, "prompt vocab"]:
        """Logits of every prompt without intervention, in order."""
        rows: list[int] = []
        parts: list[Tensor] = []
        for chunk in self._chunks(range(len(self._ids))):
            for done, logits in run_shrinking(iter([chunk]), lambda some: (some, self._logits(some))):
                rows += done
                parts.append(logits)
        return torch.cat(parts)[torch.argsort(torch.tensor(rows))]

    def ablated(
        self, vectors: Float[Tensor, "candidate d_model"], pairs: Sequence[Pair], consume: Callable[[Answered], None]
    ) -> None:
        """Run pairs with the candidate's direction ablated.

        Args:
            vectors: Candidates, raw.
            pairs: Indices into `vectors` and the prompts.
            consume: Given batches of answered pairs, every pair once (again where memory ran out in between).
        """
        placed = vectors.to(self._model.device)
        self._run(list(pairs), lambda some: [Ablation(self._chosen(placed, some))], consume)

    def added(
        self,
        vectors: Float[Tensor, "candidate d_model"],
        layers: Sequence[int],
        pairs: Sequence[Pair],
        consume: Callable[[Answered], None],
    ) -> None:
        """Run pairs with the raw candidate added at the input of its own layer.

        Args:
            vectors: Candidates, raw.
            layers: Layer of each candidate.
            pairs: Indices into `vectors` and the prompts.
            consume: As for `ablated`.
        """
        placed = vectors.to(self._model.device)

        def additions(some: list[Pair]) -> list[Intervention]:
            chosen = self._chosen(placed, some)
            own = on_device([layers[pair.candidate] for pair in some], self._model.device).unsqueeze(1)
            found = sorted({layers[pair.candidate] for pair in some})
            return [Addition(chosen * (own == layer), layer=layer) for layer in found]

        self._run(list(pairs), additions, consume)

    def _chosen(self, placed: Tensor, some: Sequence[Pair]) -> Tensor:
        return placed.index_select(0, on_device([pair.candidate for pair in some], placed.device))

    def _run(
        self,
        pairs: list[Pair],
        interventions: Callable[[list[Pair]], list[Intervention]],
        consume: Callable[[Answered], None],
    ) -> None:
        def compute(rows: list[int]) -> None:
            some = [pairs[row] for row in rows]
            with self._model.edited(interventions(some)):
                logits = self._logits([pair.prompt for pair in some])
            consume(Answered(some, logits))

        for _ in run_shrinking(self._chunks([pair.prompt for pair in pairs]), compute):
            pass

    def _logits(self, prompts: list[int]) -> Tensor:
        return self._model.logits(self._model.batch(self._ids, prompts))

    def _chunks(self, prompts: Sequence[int]) -> Iterator[list[int]]:
        """Rows in batches of one length, or of little padding where a pass is dear; longest first, else in their given order."""
        kind = self._model.device.type
        yield from like_lengths(
            [len(self._ids[prompt]) for prompt in prompts],
            tokens=CPU_TOKENS if kind == "cpu" else ACCELERATOR_TOKENS,
            waste=WASTE.get(kind, ACCELERATOR_WASTE),
            rows=None if self._batch_size == "auto" else self._batch_size,
        )
