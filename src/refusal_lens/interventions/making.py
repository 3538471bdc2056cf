"""Every intervention by name, made from directions and options: the registry beside `core.interventions`, which needs no torch.

Example:
    >>> make("addition", {"coefficient": 2.0}, [direction])
    [Addition(...)]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from pydantic import TypeAdapter

from refusal_lens.core.interventions import DECLARED, Declared
from refusal_lens.core.names import BASELINE
from refusal_lens.interventions import ablation, addition
from refusal_lens.interventions.fired import Shown
from refusal_lens.interventions.given import Given
from refusal_lens.model import Intervention


@runtime_checkable
class Made(Intervention, Shown, Protocol):
    """An intervention that can be placed in a model and can prove that it acted."""

    def rows(self, indices: Sequence[int], /) -> Made:
        """The same for some rows of the batch, in this order."""
        ...


Maker: TypeAlias = Callable[[Sequence[Given], int, Any], Sequence[Made]]
"""From directions, the rows that each serves (one block after the other) and the declared options, to what is applied."""

MAKERS: dict[str, Maker] = {
    "ablation": ablation.made,
    "affine": ablation.made_affine,
    "published": ablation.made_published,
    "addition": addition.made,
}


def make(name: str, options: Mapping[str, object], directions: Sequence[Given], *, repeats: int = 1) -> list[Made]:
    """What is applied to a model: `repeats` rows of a batch for each direction, one block after the other.

    Args:
        name: A registered intervention.
        options: Its options by name; those not given keep their defaults.
        directions: One or more; a single one serves every row.
        repeats: Rows of each direction.

    Returns:
        Interventions for `intervening` and `generate`.

    Raises:
        KeyError: No intervention has this name.
        DataError: A direction does not know what the intervention needs of it.
    """
    made = TypeAdapter(DECLARED[name].options).validate_python(dict(options))
    return list(MAKERS[name](directions, repeats, made))


def register(declared: Declared, maker: Maker) -> None:
    """Add an intervention from outside the package, before an audit that names it; every process needs this line.

    Args:
        declared: Its description.
        maker: How it is made.

    Raises:
        ValueError: The name is taken or no name, or the colour is none.
    """
    if re.fullmatch(r"[a-z][a-z0-9-]*", declared.name) is None or declared.name == BASELINE:
        raise ValueError(f"{declared.name!r} is no name of an intervention: lower-case letters, digits and dashes")
    if re.fullmatch("#[0-9a-f]{6}", declared.colour) is None:
        raise ValueError(f"{declared.name}: colour {declared.colour!r} is not of the form #2b83c6")
    if declared.name in DECLARED:
        raise ValueError(f"an intervention named {declared.name!r} is already registered")
    DECLARED[declared.name] = declared
    MAKERS[declared.name] = maker
