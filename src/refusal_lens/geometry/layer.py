"""The input of every geometric measure: one layer's activations of harmful and harmless prompts, language by language.

Prompts are parallel: row i of a class is the same prompt in every language. That is what makes resampling by prompt and
shuffling by prompt possible, so the rows that are missing in one language must be left out in all before they come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FLOAT32_ROUNDING = 1e-5


@dataclass(frozen=True)
class LayerActivations:
    """Residual stream of all languages at one layer and one position.

    Attributes:
        languages: Codes, in the order of the rows of every result.
        harmful: One array [prompt, d_model] per language, float32 (float16 and bfloat16 converted).
        harmless: The same for harmless prompts.
        rounding: Relative precision of a mean of these activations; directions below it are masked.
    """

    languages: tuple[str, ...]
    harmful: Sequence[Float[np.ndarray, "harmful d_model"]]
    harmless: Sequence[Float[np.ndarray, "harmless d_model"]]
    rounding: float = FLOAT32_ROUNDING

    def __post_init__(self) -> None:
        """Check that all languages have the same prompts."""
        for rows in (self.harmful, self.harmless):
            if len(rows) != len(self.languages):
                raise ValueError(f"{len(rows)} arrays for {len(self.languages)} languages")
            shapes = {array.shape for array in rows}
            if len(shapes) != 1 or not next(iter(shapes))[0]:
                raise ValueError(f"prompts must be parallel and not empty; shapes are {sorted(shapes)}")

    def pairs(self) -> list[tuple[Float[np.ndarray, "harmful d_model"], Float[np.ndarray, "harmless d_model"]]]:
        """Harmful and harmless activations of each language."""
        return list(zip(self.harmful, self.harmless, strict=True))
