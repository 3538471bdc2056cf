"""What is tested whenever a model is loaded: that what was located is what it seems to be.

1. Layer L as recorded from block inputs equals hidden state L as transformers counts them.
2. Interventions that return what they are given, placed at every site, change no logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_lens.errors import ModelError
from refusal_lens.model.edit import Edit, Intervention, Site
from refusal_lens.model.forward import record
from refusal_lens.model.lens import LensModel
from refusal_lens.model.tokens import PROBES


@dataclass(frozen=True)
class Nothing:
    """An intervention that acts everywhere and changes nothing."""

    def at(self, site: Site, layer: int, /) -> Edit | None:  # noqa: ARG002 (everywhere alike)
        """A copy of what it is given."""
        return torch.clone

    @property
    def holds(self) -> bool:
        """It guarantees nothing."""
        return False

    def after(self, earlier: Sequence[Intervention], /) -> Nothing:  # noqa: ARG002 (nothing to keep)
        """Itself."""
        return self

    def rows(self, indices: Sequence[int], /) -> Nothing:  # noqa: ARG002 (one for all rows)
        """Itself."""
        return self

    def fold_direction(self) -> Tensor | None:
        """None."""
        return None


def layer_error(model: LensModel) -> float:
    """Largest difference between recorded layers and transformers' hidden states, relative to their largest number.

    Args:
        model: The model.

    Returns:
        0 where both are the same numbers.
    """
    token_ids = model.render(PROBES[:1])
    batch = model.batch(token_ids)
    with torch.no_grad():
        states = model.hf(
            input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, output_hidden_states=True
        ).hidden_states
    recorded = next(record(model, PROBES[:1]))[1]
    expected = torch.stack(
        [state[:, list(model.positions)].float().to(recorded.device) for state in states[: model.n_layers]], 2
    )
    return float((recorded - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def placement_error(model: LensModel) -> float:
    """Largest change of a logit by interventions that change nothing, relative to the largest logit."""
    batch = model.batch(model.render(PROBES[:2]))
    plain = model.logits(batch)
    with model.edited([Nothing()]):
        placed = model.logits(batch)
    return float((placed - plain).abs().max() / plain.abs().max().clamp_min(1e-12))


def check_located(model: LensModel) -> None:
    """Run the load-time checks.

    Args:
        model: The model.

    Raises:
        ModelError: A check fails; the message names it.
    """
    name = model.provenance.architecture
    if not layer_error(model) <= 1e-3:
        raise ModelError(
            f"the layers recorded from {name} are not its hidden states: its blocks were located wrongly; report this model"
        )
    if not placement_error(model) <= 1e-3:
        raise ModelError(
            f"interventions that change nothing change the output of {name}: its modules pass activations in an unknown way"
        )
