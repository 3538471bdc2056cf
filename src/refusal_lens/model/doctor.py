"""Self-checks of a loaded model."""

from __future__ import annotations

import torch

from refusal_lens.errors import ModelError
from refusal_lens.model.forward import record
from refusal_lens.model.lens import LensModel
from refusal_lens.model.tokens import PROBES


@torch.no_grad()
def check_conventions(model: LensModel) -> None:
    """Test that layer L is the residual stream entering block L, as transformers counts hidden states.

    Args:
        model: The model.

    Raises:
        ModelError: The convention does not hold.
    """
    token_ids = model.render(PROBES[:1])
    batch = model.batch(token_ids)
    states = model.hf(
        input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, output_hidden_states=True
    ).hidden_states
    rows = next(record(model, PROBES[:1]))[1]
    for layer in range(model.n_layers):
        expected = states[layer][:, list(model.positions)].float()
        if not torch.allclose(
            rows[:, :, layer], expected.to(rows.device), rtol=1e-3, atol=1e-4 * float(expected.abs().max() + 1)
        ):
            raise ModelError(
                f"layer {layer} recorded from block inputs differs from hidden state {layer} of {model.provenance.architecture}"
            )
