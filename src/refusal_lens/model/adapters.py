"""Merge an adapter (LoRA, DoRA and whatever else peft can merge) into a model's weights, in memory, and prove that it acted.

1. Load the base as ever, then the adapter on top by peft; every tensor of the adapter's file must have found its place.
2. Merge. The merged model must give the logits of base and adapter run side by side: tied embeddings, or a kind of adapter
   that is no change of weights, would show here.

Nothing is written to disk. In 16-bit formats the merged weights are rounded to that format.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from refusal_lens.errors import ModelError
from refusal_lens.model.source import ADAPTER_WEIGHTS, first_line

log = logging.getLogger(__name__)

AGREEMENT = {torch.float32: 1e-3, torch.float64: 1e-3}
LOW_PRECISION_AGREEMENT = 0.1
"""Largest difference of the merged model's logits from those of base and adapter side by side, as a share of the largest."""


@torch.no_grad()
def merge_adapter(network: PreTrainedModel, adapter: Path, probe: list[int]) -> PreTrainedModel:
    """Apply an adapter to a loaded base.

    Args:
        network: The base.
        adapter: Folder with adapter_config.json and adapter_model.safetensors.
        probe: Token ids of a prompt, on which merging is proved.

    Returns:
        The same network with changed weights.

    Raises:
        ModelError: peft cannot apply or merge it, it does not belong to this base, or merging changes what it does.
    """
    from peft import PeftModel, get_peft_model_state_dict

    ids = torch.tensor([probe], device=next(network.get_input_embeddings().parameters()).device)
    network.eval()
    base = _logits(network, ids)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say of missing weights is checked below
            wrapped = PeftModel.from_pretrained(network, str(adapter)).eval()
            placed = set(get_peft_model_state_dict(wrapped))
            beside = _logits(wrapped, ids)
            merged = cast("PreTrainedModel", wrapped.merge_and_unload())
    except Exception as error:  # peft raises whatever its many kinds of adapters raise
        raise ModelError(f"the adapter in {adapter} cannot be merged into its base: {first_line(error)}") from error
    with safe_open(str(adapter / ADAPTER_WEIGHTS), framework="pt") as opened:
        stored = set(opened.keys())
    lost = sorted(stored - placed) or sorted(placed - stored)
    if lost:
        raise ModelError(
            f"the adapter in {adapter} does not belong to its base: {len(lost)} weights have no counterpart (first: {lost[0]})"
        )
    merged.eval()
    after, largest = _logits(merged, ids), float(beside.abs().max().clamp_min(1e-12))
    if not float((after - beside).abs().max()) <= AGREEMENT.get(network.dtype, LOW_PRECISION_AGREEMENT) * largest:
        raise ModelError(
            f"the adapter in {adapter} acts otherwise once it is merged (tied embeddings?): merge it by the tool that trained it"
        )
    if float((after - base).abs().max()) == 0.0:
        log.warning("the adapter in %s changes no logit of its base", adapter)
    return merged


def _logits(network: torch.nn.Module, ids: Tensor) -> Tensor:
    return cast("Tensor", network(input_ids=ids, use_cache=False).logits)[:, -1].float()
