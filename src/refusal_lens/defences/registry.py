"""The defences by name. A new one is a file with a subclass of `Method` and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from refusal_lens.defences.affine import Affine
from refusal_lens.defences.choosing import Fitting, Method
from refusal_lens.defences.coefficient import Coefficient
from refusal_lens.defences.conditional import Conditional
from refusal_lens.defences.face import CARD, Defence, read_defence
from refusal_lens.defences.nullspace import NullSpace
from refusal_lens.defences.recalibrated import Recalibrated
from refusal_lens.defences.scaling import Scaling
from refusal_lens.errors import DataError, UserError
from refusal_lens.model import LensModel

METHODS: Mapping[str, type[Method]] = {
    kind.method: kind for kind in (Conditional, Recalibrated, Coefficient, Scaling, NullSpace, Affine)
}


def fit_defence(name: str, fitting: Fitting) -> Defence:
    """Fit the method of that name on what `Fitting` holds."""
    return METHODS[known(name)].make(fitting)


def known(name: str) -> str:
    """The name, where there is such a method; else a UserError that lists them."""
    if name not in METHODS:
        raise UserError(f"no defence {name!r}: choose one of {', '.join(METHODS)}")
    return name


def load_defence(folder: Path, model: LensModel) -> Defence:
    """Read a saved defence for the model it was fitted on.

    Args:
        folder: What `save` wrote.
        model: The model.

    Returns:
        The defence.

    Raises:
        DataError: The folder holds no defence of a known method, or one of another model.
    """
    card, tensors = read_defence(folder)
    if card.method not in METHODS:
        raise DataError(f"{folder / CARD}: method {card.method!r} is not known here")
    if card.model_digest != model.provenance.digest:
        raise DataError(
            f"{folder}: this defence belongs to another model (digest {card.model_digest[:12]}, {model.provenance.spec} has "
            f"{model.provenance.digest[:12]}); fit it anew with `refusal-lens defend`"
        )
    try:
        return METHODS[card.method].restore(card, tensors)
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{folder}: the tensors do not belong to a defence {card.method!r} ({error!r})") from None
