"""The input of every geometric measure: one layer's activations of harmful and harmless prompts, language by language.

For the cosines prompts must be parallel: row i of a class is the same prompt in every language. That is what makes
resampling by prompt and shuffling by prompt possible; rows that are missing in one language must be left out in all before
they come here (`require_parallel` looks). Separation and pictures treat each language by itself and ask no such thing.
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
    harmful: Sequence[Float[np.ndarray, "_ d_model"]]
    harmless: Sequence[Float[np.ndarray, "_ d_model"]]
    rounding: float = FLOAT32_ROUNDING

    def __post_init__(self) -> None:
        """Check that every language has prompts of both classes."""
        for rows in (self.harmful, self.harmless):
            if len(rows) != len(self.languages):
                raise ValueError(f"{len(rows)} arrays for {len(self.languages)} languages")
            if not all(len(array) for array in rows):
                raise ValueError("every language needs at least one prompt of each class")

    def require_parallel(self) -> None:
        """Check that all languages have the same number of prompts.

        Raises:
            ValueError: They do not.
        """
        for rows in (self.harmful, self.harmless):
            sizes = {len(array) for array in rows}
            if len(sizes) > 1:
                raise ValueError(f"prompts must be parallel; the languages have {sorted(sizes)} of a class")

    def pairs(self) -> list[tuple[Float[np.ndarray, "_ d_model"], Float[np.ndarray, "_ d_model"]]]:
        """Harmful and harmless activations of each language."""
        return list(zip(self.harmful, self.harmless, strict=True))
