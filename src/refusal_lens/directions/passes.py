"""Choose how forward passes over (candidate, prompt) pairs are run: the fastest way that is proved equal on this model."""

from __future__ import annotations

from collections.abc import Sequence

from refusal_lens.directions.tiled import TiledPasses
from refusal_lens.model import BatchSize, LensModel


def passes_for(model: LensModel, token_ids: Sequence[Sequence[int]], *, batch_size: BatchSize = "auto") -> TiledPasses:
    """Passes for a model and prompts.

    Args:
        model: The model.
        token_ids: Rendered prompts.
        batch_size: Rows of one pass, or "auto".

    Returns:
        Passes whose results equal the model's own forward passes.
    """
    return TiledPasses(model, token_ids, batch_size=batch_size)
