"""Choose how (candidate, prompt) pairs are run: the fastest way that is proved equal to the model's own forward pass.

On a CPU in full precision that is the prefix cache, twice as fast as whole passes. On an accelerator its many small launches
cost more than the arithmetic they save (docs/speed.md), and in 16-bit formats its proof could be no tighter than the
effects it must not change: there whole passes over batched candidates run.

The proof is a measurement on the very prompts of the sweep, at its start: unchanged logits of two prompts, one random
direction ablated, one added at two layers, each against `batched`. Ways are tried from the fastest down; a model that
supports none of them (blocks that cannot be called on their own) is swept by whole forward passes, which always work.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.directions.batched import CPU_TOKENS, Answered, BatchedPasses, Pair
from refusal_lens.directions.prefix_calls import UNSUPPORTED
from refusal_lens.directions.prefix_passes import PrefixWalk
from refusal_lens.model import FULL_PRECISION, BatchSize, LensModel, is_out_of_memory, run_shrinking

log = logging.getLogger(__name__)

TOKENS = 1280
"""Of a pass under "auto": with more, activations leave a CPU's caches, and 24 layers took a sixth longer with 4096."""
KEY_BYTES = 48 << 20
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest difference of logits, as a share of their largest magnitude."""

WAYS: tuple[dict[str, bool], ...] = (
    {},
    {"last_only": False},
    {"direct_head": False},
    {"share": False},
    {"last_only": False, "direct_head": False},
    {"last_only": False, "direct_head": False, "share": False},
)


class PrefixCachePasses(BatchedPasses):
    """Forward passes over (candidate, prompt) pairs by running blocks directly; see `prefix_passes`."""

    def __init__(
        self, model: LensModel, token_ids: Sequence[Sequence[int]], walk: PrefixWalk, *, batch_size: BatchSize = "auto"
    ) -> None:
        """Wrap a walk over the prompts.

        Args:
            model: The model.
            token_ids: Rendered prompts.
            walk: The same prompts, cached.
            batch_size: Candidates of one pass, or "auto".
        """
        super().__init__(model, token_ids, batch_size=batch_size)
        self._walker = walk

    def plain(self) -> Float[Tensor, "prompt vocab"]:
        """As in `BatchedPasses`, from what was recorded."""
        return self._walker.plain(range(len(self._ids)))

    def ablated(
        self, vectors: Float[Tensor, "candidate d_model"], pairs: Sequence[Pair], consume: Callable[[Answered], None]
    ) -> None:
        """As in `BatchedPasses`."""
        self._walk(vectors, None, pairs, consume)

    def added(
        self,
        vectors: Float[Tensor, "candidate d_model"],
        layers: Sequence[int],
        pairs: Sequence[Pair],
        consume: Callable[[Answered], None],
    ) -> None:
        """As in `BatchedPasses`."""
        self._walk(vectors, layers, pairs, consume)

    def _walk(
        self, vectors: Tensor, layers: Sequence[int] | None, pairs: Sequence[Pair], consume: Callable[[Answered], None]
    ) -> None:
        prompts_of: dict[int, list[int]] = {}
        for pair in pairs:
            prompts_of.setdefault(pair.candidate, []).append(pair.prompt)
        alike: dict[tuple[int, ...], list[int]] = {}
        for candidate, prompts in prompts_of.items():
            alike.setdefault(tuple(prompts), []).append(candidate)
        placed = vectors.to(self._model.device)
        for prompts, candidates in alike.items():
            ordered = candidates if layers is None else sorted(candidates, key=lambda candidate: layers[candidate])

            def compute(some: list[int], prompts: tuple[int, ...] = prompts) -> None:
                def answer(ended: list[int], logits: Tensor) -> None:
                    answered = [Pair(candidate, prompt) for candidate in some for prompt in ended]
                    consume(Answered(answered, logits.flatten(0, 1)))

                at = None if layers is None else [layers[candidate] for candidate in some]
                self._walker.walk(placed[some], at, prompts, tokens=self._tokens(prompts), consume=answer)

            passes = math.ceil(len(ordered) / self._candidates_at_once(prompts))
            size = math.ceil(len(ordered) / passes)  # passes alike: a small last one would cost as much as a full one
            chunks = (ordered[start : start + size] for start in range(0, len(ordered), size))
            for _ in run_shrinking(chunks, compute):
                pass

    def _tokens(self, prompts: Sequence[int]) -> int:
        if self._batch_size != "auto":
            return self._batch_size * max(len(self._ids[prompt]) for prompt in prompts)
        return TOKENS

    def _candidates_at_once(self, prompts: Sequence[int]) -> int:
        lengths = [len(self._ids[prompt]) for prompt in prompts]
        most = KEY_BYTES // max(1, self._walker.key_bytes())
        if self._batch_size != "auto":
            return max(1, min(self._batch_size, most))
        return max(1, min(TOKENS * len(lengths) // sum(lengths), CPU_TOKENS // max(lengths), most))


def passes_for(
    model: LensModel, token_ids: Sequence[Sequence[int]], *, batch_size: BatchSize = "auto"
) -> BatchedPasses:
    """Passes for a model and prompts.

    Args:
        model: The model.
        token_ids: Rendered prompts.
        batch_size: Rows of one pass, or "auto".

    Returns:
        Passes whose results equal the model's own forward passes.
    """
    batched = BatchedPasses(model, token_ids, batch_size=batch_size)
    if model.device.type != "cpu" or model.dtype not in FULL_PRECISION:
        return batched
    probes = sorted({_extreme(token_ids, min), _extreme(token_ids, max)})
    wanted = _probe(batched, model, probes)
    wanted.append(wanted[0][: len(probes)])  # under a zero direction, which changes nothing
    for way in WAYS:
        try:
            walk = PrefixWalk(model, token_ids, **way)
            passes = PrefixCachePasses(model, token_ids, walk, batch_size=batch_size)
            found = [*_probe(passes, model, probes), walk.plain(probes)]
        except UNSUPPORTED as error:
            if is_out_of_memory(error):
                raise
            log.info("prefix cache %s is not supported here: %s", way, error)
            continue
        difference = max(float((one - two).abs().max()) for one, two in zip(found, wanted, strict=True))
        scale = max(float(item.abs().max()) for item in wanted)
        if difference <= TOLERANCE[model.dtype] * scale:
            return passes
        log.info("prefix cache %s differs by %.1e of %.1e", way, difference, scale)
    log.info("%s: blocks cannot be run on their own, sweeping with whole forward passes", type(model.hf).__name__)
    return batched


def _extreme(token_ids: Sequence[Sequence[int]], which: Callable[[Sequence[int]], int]) -> int:
    lengths = [len(ids) for ids in token_ids]
    return lengths.index(which(lengths))


def _probe(passes: BatchedPasses, model: LensModel, prompts: Sequence[int]) -> list[Tensor]:
    """Logits of some prompts: unchanged (a zero direction), one direction ablated, one added early and late."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(model.d_model, generator=generator)
    vectors = torch.stack([torch.zeros_like(random), random])
    layers = [min(1, model.n_layers - 1), model.n_layers - 1]
    pairs = [Pair(candidate, prompt) for candidate in (0, 1) for prompt in prompts]
    found: list[Tensor] = []
    answers: dict[Pair, Tensor] = {}

    def consume(answered: Answered) -> None:
        answers.update(zip(answered.pairs, answered.logits.float().cpu(), strict=True))

    passes.ablated(vectors, pairs, consume)
    found.append(torch.stack([answers[pair] for pair in pairs]))
    passes.added(random.expand(2, -1), layers, pairs, consume)
    found.append(torch.stack([answers[pair] for pair in pairs]))
    return found
