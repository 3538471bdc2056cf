"""Proof that an intervention acted while answers were written: what readers of the residual stream read along its direction.

share before = without the intervention, share after = during the very generation, both as the mean over the readers and
some prompts of |x.r - c| / |x| for an ablation, of (x.v) / (|x| |v|) from its layer on for an addition, at the last prompt
token. An intervention that leaves its share where it was did nothing, and nothing measured under it may be reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from refusal_lens.errors import ModelError
from refusal_lens.interventions.checks import FULL_LEAK_LIMIT, LEAK_LIMIT
from refusal_lens.model import LensModel, generate

MOVED = 0.01
"""An intervention that changes its share by less than this part of the larger one did nothing."""
DECIMALS = 6
"""Of a share that is kept."""


@runtime_checkable
class Shown(Protocol):
    """An intervention that can tell its share of what is read."""

    def share(self, read: Float[Tensor, "row d_model"], layer: int, /) -> Float[Tensor, " row"]:
        """One number per row; NaN where it does not act there."""
        ...

    def rows(self, indices: Sequence[int], /) -> Shown:
        """The same for some rows."""
        ...


@dataclass(frozen=True, slots=True)
class Shares:
    """Mean share along a direction before and after; None where there is nothing to measure (a zero direction)."""

    before: float | None
    after: float | None

    def fired(self, *, rounding: float) -> bool:
        """Whether something happened: the share moved, or there was no more than rounding to begin with.

        Args:
            rounding: Share that is no more than rounding in the model's number format.

        Returns:
            True also where nothing could be measured.
        """
        if self.before is None or self.after is None:
            return True
        largest = max(abs(self.before), abs(self.after))
        return largest <= rounding or abs(self.after - self.before) > MOVED * largest


class FiredProof:
    """Collects the shares of some rows of a generation; its `watch` is what `generate` takes."""

    def __init__(self, interventions: Sequence[Shown], rows: Sequence[int]) -> None:
        """Remember what to measure.

        Args:
            interventions: Those of the generation, with its rows.
            rows: Rows of the generation to measure.
        """
        self._interventions = interventions
        self._rows = {row: place for place, row in enumerate(rows)}
        self._before: dict[int, list[float]] = {row: [] for row in rows}
        self._after: dict[int, list[float]] = {row: [] for row in rows}

    def measure_before(self, model: LensModel, instructions: Sequence[str]) -> None:
        """One pass over the measured rows without any intervention.

        Args:
            model: The model.
            instructions: All prompts of the generation.
        """
        generate(model, [instructions[row] for row in self.rows], max_new_tokens=1, watch=self.watch_before)

    @property
    def rows(self) -> list[int]:
        """The rows of the generation that are measured."""
        return list(self._rows)

    def watch_before(self, places: Sequence[int], layer: int, read: Float[Tensor, "row d_model"]) -> None:
        """Told what readers read without any intervention; `places` count the measured rows."""
        rows = self.rows
        self._note(self._before, [rows[place] for place in places], layer, read)

    def watch(self, rows: Sequence[int], layer: int, read: Float[Tensor, "row d_model"]) -> None:
        """Told by `generate` what its readers read."""
        places = [place for place, row in enumerate(rows) if row in self._rows]
        if places:
            self._note(self._after, [rows[place] for place in places], layer, read[places])

    def shares(self, rows: Sequence[int]) -> Shares:
        """The mean over some of the measured rows.

        Args:
            rows: Rows of the generation; those not measured are left out.

        Returns:
            Before and after.
        """
        return Shares(_mean(self._before, rows), _mean(self._after, rows))

    def _note(self, into: dict[int, list[float]], rows: list[int], layer: int, read: Tensor) -> None:
        for intervention in self._interventions:
            shares = intervention.rows(rows).share(read, layer).tolist()
            for row, share in zip(rows, shares, strict=True):
                if not math.isnan(share):
                    into[row].append(share)


def require_fired(shares: Shares, what: str, model: LensModel) -> None:
    """Stop where an intervention did nothing.

    Args:
        shares: What was measured.
        what: The intervention, for the message.
        model: The model it was measured in.

    Raises:
        ModelError: It did nothing.
    """
    if not shares.fired(rounding=LEAK_LIMIT.get(model.dtype, FULL_LEAK_LIMIT)):
        raise ModelError(
            f"{what} did nothing: {shares.before:.2e} of what is read lies along its direction without it, "
            f"{shares.after:.2e} with it; no number measured under it means anything. Report this model"
        )


def _mean(values: dict[int, list[float]], rows: Sequence[int]) -> float | None:
    """Two digits, and none beyond float32's rounding, which depends on what else was in the batch."""
    found = [share for row in rows for share in values.get(row, ())]
    return float(f"{round(sum(found) / len(found), DECIMALS):.2g}") if found else None
