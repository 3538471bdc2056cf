"""Which engine writes answers, and how: transport, which changes no answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

EngineName: TypeAlias = Literal["auto", "hf"]


@dataclass(frozen=True, slots=True)
class Engine:
    """How `generate` writes answers.

    Attributes:
        name: "hf" is transformers; "auto" takes what serves best, transformers today.
        plain: Call the model anew for every token with a growing cache, instead of repeating one step on tensors that stay
            where they are. Slower, and the same answers: it is what the step is compared with.
    """

    name: EngineName = "auto"
    plain: bool = False


ENGINE = Engine()
"""What serves best."""
