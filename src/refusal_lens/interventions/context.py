"""The context managers that put interventions in place: by hooks on activations, or folded into weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from refusal_lens.model import Intervention, LensModel


@contextmanager
def intervening(model: LensModel, interventions: Sequence[Intervention]) -> Iterator[LensModel]:
    """Apply interventions to every forward pass of a model inside the context.

    All-or-nothing; no hook is left behind after an error; weights are never touched.

    Args:
        model: The model.
        interventions: Applied in this order at each place. Several ablations together remove all their directions.

    Yields:
        The same model.
    """
    with model.edited(interventions):
        yield model
