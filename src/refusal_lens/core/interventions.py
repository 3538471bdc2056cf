"""What is known of an intervention without a model: its name, its options, the prompts it is read on, its words and colour.

From these follow the options of `audit`, its cells, rates, transfer matrix, damage and every place of the report. How it
acts stands in the room `interventions`, in a file of its own. To add one: that file, an entry in `DECLARED` here, and its
line in `interventions/making.py`. The verdict reads `ablation` alone (`measure/universality.py` says why).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from refusal_lens.types import Harm


@dataclass(frozen=True)
class Options:
    """Options of an intervention, each with a default; one without options uses this class itself."""

    def words(self) -> str:
        """What was set, for people: it follows the intervention's name."""
        return ""


@dataclass(frozen=True)
class AblationOptions(Options):
    """How a direction is removed: the variant of the sites, and whether to the harmless mean instead of zero."""

    variant: Literal["exact", "published"] = "exact"
    affine: bool = False

    def words(self) -> str:
        """The reference and the variant."""
        return f"to {'the harmless mean (affine)' if self.affine else 'zero'}, {self.variant}"


@dataclass(frozen=True)
class AffineOptions(Options):
    """The variant of an ablation to the harmless mean."""

    variant: Literal["exact", "published"] = "exact"

    def words(self) -> str:
        """The variant."""
        return f"ablation to the harmless mean, {self.variant}"


@dataclass(frozen=True)
class AdditionOptions(Options):
    """How much of the direction is added."""

    coefficient: float = 1.0

    def words(self) -> str:
        """The coefficient."""
        return f"with coefficient {self.coefficient}"


@dataclass(frozen=True, kw_only=True)
class Declared:
    """An intervention as everything but the model knows it.

    Attributes:
        name: In tables, tasks and the configuration; lower-case letters, digits and dashes.
        reads_on: The class of prompts on which its own effect is read: harmful ones for what removes refusal, harmless ones
            for what induces it.
        done: What was done to the direction: "ablated".
        colour: Of its figures and cells, a hexadecimal colour.
        options: A frozen dataclass with a default for every option. One named like a key of `[interventions]`
            (`variant`, `affine`, `coefficient`) is set by that key.
        may_rest: It may leave a prompt alone on purpose, so that doing nothing is no fault (see `interventions/fired.py`).
    """

    name: str
    reads_on: Harm
    done: str
    colour: str
    options: type[Options] = Options
    may_rest: bool = False

    @property
    def tone(self) -> str:
        """Its colour's name in the report's style sheet."""
        return re.sub("[^a-z0-9]+", "-", self.done.lower()).strip("-")


DECLARED: dict[str, Declared] = {
    declared.name: declared
    for declared in (
        Declared(name="ablation", reads_on="harmful", done="ablated", colour="#d9601a", options=AblationOptions),
        Declared(name="affine", reads_on="harmful", done="ablated (affine)", colour="#a8720f", options=AffineOptions),
        Declared(name="published", reads_on="harmful", done="ablated (published)", colour="#8c4a2f"),
        Declared(name="addition", reads_on="harmless", done="added", colour="#2b83c6", options=AdditionOptions),
    )
}
"""Every intervention by name, in the order of tables and pages."""
SHIPPED = frozenset(DECLARED)
"""Those that every process knows; what `interventions.register` adds, it adds to its own."""


def declared(name: str) -> Declared:
    """An intervention by name; of one that is not known here, e.g. in another's run, what its name says."""
    return DECLARED.get(name) or Declared(name=name, reads_on="harmful", done=name, colour="#666f7c")


def reads_on(name: str) -> Harm | None:
    """The class of prompts on which an intervention's own effect is read; None for the baseline and unknown names."""
    found = DECLARED.get(name)
    return None if found is None else found.reads_on
