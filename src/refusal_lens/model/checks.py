"""What is tested whenever a model is loaded: that what was located is what it seems to be.

1. Layer L as recorded from block inputs equals hidden state L as transformers counts them.
2. Interventions that return what they are given, placed at every site, change no logit.
3. Its logits are numbers, and a token read with a cache of keys and values gives the logits of one pass over everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_lens.errors import ModelError
from refusal_lens.model.batches import is_out_of_memory
from refusal_lens.model.cache import holding, new_cache
from refusal_lens.model.edit import FULL_PRECISION, Edit, Intervention, Site
from refusal_lens.model.forward import record
from refusal_lens.model.lens import LAST, LensModel
from refusal_lens.model.source import first_line
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
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=LAST,
        ).hidden_states
    recorded = next(record(model, PROBES[:1]))[1]
    expected = torch.stack(
        [state[:, list(model.positions)].float().to(recorded.device) for state in states[: model.n_layers]], 2
    )
    return float((recorded - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def placement_error(model: LensModel, *, plain: Tensor | None = None) -> float:
    """Largest change of a logit by interventions that change nothing, relative to the largest logit.

    Args:
        model: The model.
        plain: Logits of two probes, where they are known.

    Returns:
        0 where it is the same numbers.
    """
    batch = model.batch(model.probes(2))
    plain = model.logits(batch) if plain is None else plain
    with model.edited([Nothing()]):
        placed = model.logits(batch)
    return float((placed - plain).abs().max() / plain.abs().max().clamp_min(1e-12))


@torch.no_grad()
def decoding_error(model: LensModel, whole: Tensor) -> float:
    """Largest change of a logit where the last token is read with a cache instead of in one pass, relative to the largest.

    Args:
        model: The model.
        whole: Logits of two probes in one pass.

    Returns:
        0 where it is the same numbers.
    """
    ids = model.probes(2)
    before = model.batch([row[:-1] for row in ids])
    cache = new_cache(model.hf.config)
    keywords = {**holding(model.hf, cache), "use_cache": True, "logits_to_keep": 1}
    mask = before.attention_mask
    model.hf(input_ids=before.input_ids, attention_mask=mask, position_ids=before.position_ids, **keywords)
    stepped = model.hf(
        input_ids=torch.tensor([row[-1:] for row in ids], device=model.device),
        attention_mask=None if mask is None else torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1),
        position_ids=before.position_ids[:, -1:] + 1,
        **keywords,
    ).logits[:, -1]
    return float((stepped - whole).abs().max() / whole.abs().max().clamp_min(1e-12))


def _check_decoding(model: LensModel, whole: Tensor) -> None:
    name = model.provenance.architecture
    if not torch.isfinite(whole).all():
        if model.dtype == torch.float16:
            raise ModelError(
                f"{name} overflows in float16 (largest number 65,504) on an ordinary prompt; use --dtype bfloat16 or float32"
            )
        raise ModelError(f"{name} gives logits that are no numbers on an ordinary prompt: its weights are damaged")
    own = f"{name} does not write with a cache of keys and values (recurrent and state-space models do not), and is not audited"
    try:
        error = decoding_error(model, whole)
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as fault:
        if is_out_of_memory(fault):
            raise
        raise ModelError(f"{own}: {first_line(fault)}") from fault
    limit = 1e-3 if model.dtype in FULL_PRECISION else 1e-1
    if not error <= limit and _looks_back_only(model, limit):  # what looks ahead is found, and named, by another check
        raise ModelError(f"{own}: token by token its logits differ by {error:.1e} of the largest")


@torch.no_grad()
def _looks_back_only(model: LensModel, limit: float) -> bool:
    """Whether the last token but one has the same logits with and without the last."""
    ids = model.probes(1)
    batch = model.batch(ids)
    both = model.hf(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits[:, -2]
    alone = model.logits(model.batch([ids[0][:-1]]))
    return float((both - alone).abs().max() / alone.abs().max().clamp_min(1e-12)) <= limit


def check_located(model: LensModel) -> None:
    """Run the load-time checks.

    Args:
        model: The model.

    Raises:
        ModelError: A check fails; the message names it.
    """
    whole = model.logits(model.batch(model.probes(2)))
    _check_decoding(model, whole)
    name = model.provenance.architecture
    if not layer_error(model) <= 1e-3:
        raise ModelError(
            f"the layers recorded from {name} are not its hidden states: its blocks were located wrongly; report this model"
        )
    if not placement_error(model, plain=whole) <= 1e-3:
        raise ModelError(
            f"interventions that change nothing change the output of {name}: its modules pass activations in an unknown way"
        )
