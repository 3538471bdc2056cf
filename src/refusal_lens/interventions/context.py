"""The context managers that put interventions in place: by hooks on activations, or folded into weights."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from refusal_lens.errors import UserError
from refusal_lens.interventions.ablation import Ablation
from refusal_lens.model import Intervention, LensModel, fold_plan, folding


@contextmanager
def intervening(model: LensModel, interventions: Sequence[Intervention]) -> Generator[LensModel, None, None]:
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


@contextmanager
def folded(model: LensModel, ablation: Ablation) -> Generator[LensModel, None, None]:
    """Hold weights without a direction inside the context: the same numbers as hooks, at the speed of the plain model.

    Args:
        model: The model.
        ablation: Exact, towards zero, one direction.

    Yields:
        The same model; afterwards it holds its original weights, byte for byte.

    Raises:
        UserError: Folding would not be exact for this model or this ablation.
    """
    direction = ablation.fold_direction()
    if direction is None:
        raise UserError(
            "only an exact ablation of one direction towards zero can be folded into weights; use intervening"
        )
    plan = fold_plan(model)
    if not plan.exact:
        raise UserError(f"folding is not exact in {model.provenance.architecture} ({plan.why_not}); use intervening")
    with folding(plan, direction):
        yield model
