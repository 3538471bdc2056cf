"""Which engine writes answers, and how: transport, which changes no answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

EngineName: TypeAlias = Literal["auto", "hf", "vllm"]


@dataclass(frozen=True, slots=True)
class Engine:
    """How `generate` writes answers.

    Attributes:
        name: "hf" is transformers; "vllm" is asked only by who knows it (`refusal_lens.engines`), for answers of an audit; "auto"
            takes vLLM there where it is installed and the model is on a GPU.
        plain: Call the model anew for every token with a growing cache, instead of repeating one step on tensors that stay
            where they are. Slower, and the same answers: it is what the step is compared with.
        tensor_parallel: Devices over which vLLM spreads the model.
    """

    name: EngineName = "auto"
    plain: bool = False
    tensor_parallel: int = 1


ENGINE = Engine()
"""What serves best."""
