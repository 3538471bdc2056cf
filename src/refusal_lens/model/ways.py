"""Which way a model's answers may be written, proved once per model against the plain loop.

A step is repeated where two tokens read and two repeated have the plain loop's logits; with the batch's common beginning read
once, where that has them too. Otherwise, and where a cache keeps something else than keys and values or the model lies on
several devices, the plain loop writes.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from refusal_lens.model.answers import Job
from refusal_lens.model.cache import holding, new_cache
from refusal_lens.model.decoding import Decoder, recorder_for
from refusal_lens.model.fixed_cache import fixed_layers
from refusal_lens.model.lens import LensModel
from refusal_lens.model.tokens import PROBES

log = logging.getLogger(__name__)

Way: TypeAlias = Literal["shared", "apart", "plain"]
"""How a model's answers may be written: repeated with a common beginning read once, repeated, or by the plain loop."""
AGREEMENT = {torch.float32: 1e-4, torch.float64: 1e-9}
LOW_PRECISION_AGREEMENT = 0.1
"""Largest difference of logits from the plain loop's, as a share of the largest."""
PROVED = 4
"""Tokens of the proof: one read, one decoded as it is, two repeated."""

_WAYS: WeakKeyDictionary[LensModel, Way] = WeakKeyDictionary()


def way_of(model: LensModel) -> Way:
    """How a model's answers may be written, proved once per model against the plain loop.

    Args:
        model: The model, as it is: nothing of what is proved depends on its weights.

    Returns:
        The fastest way that writes the plain loop's tokens.
    """
    if model not in _WAYS:
        _WAYS[model] = _fastest(model)
    return _WAYS[model]


@contextmanager
def plainly(model: LensModel) -> Generator[None, None, None]:
    """Inside the context answers are written by the plain loop: for who counts passes by hooks of their own.

    The repeated step reads a common beginning in a pass of its own, is proved in further passes, and is recorded on a GPU.
    """
    known = _WAYS.get(model)
    _WAYS[model] = "plain"
    try:
        yield
    finally:
        del _WAYS[model]
        if known is not None:
            _WAYS[model] = known


def _fastest(model: LensModel) -> Way:
    column = torch.zeros(1, dtype=torch.long, device=model.device)
    devices = {parameter.device for parameter in model.hf.parameters()}
    if len(devices) > 1 or fixed_layers(model.hf.config, column) is None:
        return "plain"
    ids = model.token_ids(PROBES[:3])
    ids.sort(key=len, reverse=True)
    wanted = _plain_logits(model, ids)
    for way in ("shared", "apart"):
        try:
            if _agrees(model, ids, wanted, share=way == "shared"):
                return way
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError) as error:
            log.info("%s: steps cannot be repeated (%s)", type(model.hf).__name__, str(error).split("\n")[0])
    return "plain"


@torch.no_grad()
def _plain_logits(model: LensModel, ids: Sequence[Sequence[int]]) -> list[Tensor]:
    batch, cache = model.batch(ids), new_cache(model.hf.config)
    found: list[Tensor] = []
    token, mask, positions = batch.input_ids, batch.attention_mask, batch.position_ids
    for _ in range(PROVED):
        found.append(
            model.hf(
                input_ids=token,
                attention_mask=mask,
                position_ids=positions,
                use_cache=True,
                logits_to_keep=1,
                **holding(model.hf, cache),
            ).logits[:, -1]
        )
        token, positions = found[-1].argmax(-1, keepdim=True), positions[:, -1:] + 1
        mask = None if mask is None else torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)
    return found


@torch.no_grad()
def _agrees(model: LensModel, ids: Sequence[Sequence[int]], wanted: Sequence[Tensor], *, share: bool) -> bool:
    decoder = Decoder(model, share, recorder_for(model), least=1)
    allowed = AGREEMENT.get(model.dtype, LOW_PRECISION_AGREEMENT)
    job = Job(model, ids, PROVED)
    for number, plain in enumerate(wanted):
        ours = decoder.step() if number else decoder.begin(job, range(len(ids)), PROVED)
        if not float((ours.float() - plain.float()).abs().max()) <= allowed * float(plain.float().abs().max()):
            return False
        decoder.follow(plain.argmax(-1))
    return True
