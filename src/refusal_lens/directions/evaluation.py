"""The three scores as tables of (candidate, prompt): what the exact sweep sums up whole and the race fills step by step.

- refusal[c, i]: refusal score of harmful prompt i with candidate c ablated;
- steering[c, j]: refusal score of harmless prompt j with candidate c added at its own layer;
- divergence[c, j]: KL of harmless prompt j's next token, before against after ablating c.

Each cell is run at most once. Numbers stay where they were computed until somebody reads a table, so that an accelerator is
not waited for after every pass. It decides nothing about which candidate is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.directions.batched import Answered, Pair
from refusal_lens.directions.formulas import Arithmetic, Divergence, refusal_score
from refusal_lens.model import in_float64
from refusal_lens.model.batches import on_device


@runtime_checkable
class Passes(Protocol):
    """Forward passes over (candidate, prompt) pairs; see `batched`."""

    def ablated(
        self, vectors: Float[Tensor, "candidate d_model"], pairs: Sequence[Pair], consume: Callable[[Answered], None]
    ) -> None:
        """Run pairs with each one's candidate ablated."""
        ...

    def added(
        self,
        vectors: Float[Tensor, "candidate d_model"],
        layers: Sequence[int],
        pairs: Sequence[Pair],
        consume: Callable[[Answered], None],
    ) -> None:
        """Run pairs with each one's candidate added at its layer."""
        ...


@dataclass(frozen=True)
class Contenders:
    """Candidates under test: vectors [candidate, d_model] (raw) and the layer of each."""

    vectors: Float[Tensor, "candidate d_model"]
    layers: tuple[int, ...]


@dataclass
class Table:
    """One score of every candidate on every prompt of a class.

    Attributes:
        ran: Which cells were run.
    """

    ran: npt.NDArray[np.bool_]
    _values: Float[Tensor, "candidate prompt"] = field(init=False)
    _waiting: list[tuple[list[int], list[int], Tensor]] = field(
        default_factory=list[tuple[list[int], list[int], Tensor]], init=False
    )

    def __post_init__(self) -> None:
        """No number yet."""
        self._values = torch.full(tuple(self.ran.shape), torch.nan, dtype=torch.float64)

    @classmethod
    def empty(cls, candidates: int, prompts: int) -> Table:
        """A table in which nothing has run."""
        return cls(np.zeros((candidates, prompts), dtype=np.bool_))

    @property
    def n_prompts(self) -> int:
        """Prompts of the class."""
        return self.ran.shape[1]

    @property
    def values(self) -> Float[Tensor, "candidate prompt"]:
        """float64 on the CPU, nats; NaN where not run (or where the model gave no number)."""
        if self._waiting:
            found = torch.cat([numbers for _, _, numbers in self._waiting]).cpu()
            rows = [row for some, _, _ in self._waiting for row in some]
            columns = [column for _, some, _ in self._waiting for column in some]
            self._values[rows, columns] = found
            self._waiting.clear()
        return self._values

    def fill(self, candidates: list[int], prompts: list[int], values: Float[Tensor, " cell"]) -> None:
        """Write some cells."""
        self._waiting.append((candidates, prompts, in_float64(values)))
        self.ran[candidates, prompts] = True

    def mean(self, candidate: int) -> float | None:
        """A candidate's mean over all prompts, None unless every one has run."""
        return float(self.values[candidate].mean()) if bool(self.ran[candidate].all()) else None


class Evaluation:
    """Tables of scores for fixed candidates and prompts."""

    def __init__(
        self,
        passes: Passes,
        contenders: Contenders,
        *,
        plain: Float[Tensor, "prompt vocab"],
        n_harmful: int,
        token_ids: Sequence[int],
        arithmetic: Arithmetic = "published",
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Score the unchanged model and make empty tables.

        Args:
            passes: Runs pairs; its prompts are the harmful ones followed by the harmless ones.
            contenders: Candidates.
            plain: Logits of all prompts without intervention.
            n_harmful: How many of the prompts are harmful.
            token_ids: Refusal tokens.
            arithmetic: Published epsilons or none.
            progress: Told the number of finished pairs after every batch.
        """
        self._passes = passes
        self._contenders = contenders
        self._n_harmful = n_harmful
        self._token_ids = list(token_ids)
        self._arithmetic: Arithmetic = arithmetic
        self._progress = progress
        self._divergence = Divergence(plain[n_harmful:], arithmetic=arithmetic)
        count, n_harmless = len(contenders.layers), plain.shape[0] - n_harmful
        self.layers = contenders.layers
        self.refusal = Table.empty(count, n_harmful)
        self.steering = Table.empty(count, n_harmless)
        self.divergence = Table.empty(count, n_harmless)
        before = refusal_score(plain, token_ids, arithmetic=arithmetic).cpu()
        self.before_harmful, self.before_harmless = before[:n_harmful], before[n_harmful:]
        self.pairs_run = 0

    def ablate(self, candidates: Sequence[int], *, harmful: Sequence[int] = (), harmless: Sequence[int] = ()) -> None:
        """Fill refusal and divergence cells; a cell that has run is not run again.

        Args:
            candidates: Rows.
            harmful: Columns of the refusal table.
            harmless: Columns of the divergence table.
        """
        pairs = [  # all harmful ones first: in a batch of one length each class is then a slice of the logits
            Pair(candidate, offset + column)
            for offset, table, columns in (
                (0, self.refusal, harmful),
                (self._n_harmful, self.divergence, harmless),
            )
            for candidate in candidates
            for column in columns
            if not table.ran[candidate, column]
        ]

        def note(answered: Answered) -> None:
            is_harmful = [pair.prompt < self._n_harmful for pair in answered.pairs]
            for wanted, table, offset in ((True, self.refusal, 0), (False, self.divergence, self._n_harmful)):
                rows = [row for row, found in enumerate(is_harmful) if found == wanted]
                if not rows:
                    continue
                columns = [answered.pairs[row].prompt - offset for row in rows]
                logits = _rows_of(answered.logits, rows)
                values = self._refusal(logits) if wanted else self._divergence(logits, prompts=columns)
                table.fill([answered.pairs[row].candidate for row in rows], columns, values)
            self._count(len(answered.pairs))

        self._passes.ablated(self._contenders.vectors, pairs, note)

    def add(self, candidates: Sequence[int], *, harmless: Sequence[int]) -> None:
        """Fill steering cells; a cell that has run is not run again.

        Args:
            candidates: Rows.
            harmless: Columns.
        """
        pairs = [
            Pair(candidate, self._n_harmful + column)
            for candidate in candidates
            for column in harmless
            if not self.steering.ran[candidate, column]
        ]

        def note(answered: Answered) -> None:
            columns = [pair.prompt - self._n_harmful for pair in answered.pairs]
            values = self._refusal(answered.logits)
            self.steering.fill([pair.candidate for pair in answered.pairs], columns, values)
            self._count(len(answered.pairs))

        self._passes.added(self._contenders.vectors, self._contenders.layers, pairs, note)

    def means(self, candidate: int) -> tuple[float | None, float | None, float | None]:
        """Refusal, steering and KL score of a candidate, None where not measured on every prompt."""
        return self.refusal.mean(candidate), self.steering.mean(candidate), self.divergence.mean(candidate)

    def _refusal(self, logits: Float[Tensor, "row vocab"]) -> Float[Tensor, " row"]:
        return refusal_score(logits, self._token_ids, arithmetic=self._arithmetic)

    def _count(self, pairs: int) -> None:
        self.pairs_run += pairs
        if self._progress is not None:
            self._progress(pairs)


def _rows_of(logits: Tensor, rows: list[int]) -> Tensor:
    """Some rows: a view where they lie together, as a vocabulary of numbers each is no small copy."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return logits[rows[0] : rows[-1] + 1]
    return logits.index_select(0, on_device(rows, logits.device))
