"""Choose how (candidate, prompt) pairs are run: the fastest way that is proved equal to the model's own forward pass.

The proof is a measurement on the very prompts of the sweep, at its start: unchanged logits of two prompts, one random
direction ablated, one added at two layers, each against `tiled`. Ways are tried from the fastest down; a model that
supports none of them (blocks that cannot be called on their own) is swept by whole forward passes, which always work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.directions.replay import Replay
from refusal_lens.directions.tiled import ACCELERATOR_TOKENS, CPU_TOKENS, Answered, Pair, TiledPasses
from refusal_lens.model import BatchSize, LensModel, is_out_of_memory, run_shrinking

log = logging.getLogger(__name__)

CPU_KEY_BYTES = 48 << 20
ACCELERATOR_KEY_BYTES = 2 << 30
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
COARSE_TOLERANCE = 5e-2
"""Largest difference of logits, as a share of their largest magnitude; the coarse one for 16-bit formats."""

WAYS: tuple[dict[str, bool], ...] = (
    {},
    {"last_only": False},
    {"direct_head": False},
    {"share": False},
    {"last_only": False, "direct_head": False},
    {"last_only": False, "direct_head": False, "share": False},
)
_UNSUPPORTED = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError, AssertionError)


class ReplayPasses(TiledPasses):
    """Forward passes over (candidate, prompt) pairs by running blocks directly; see `replay`."""

    def __init__(
        self, model: LensModel, token_ids: Sequence[Sequence[int]], replay: Replay, *, batch_size: BatchSize = "auto"
    ) -> None:
        """Wrap a replay of the prompts.

        Args:
            model: The model.
            token_ids: Rendered prompts.
            replay: The same prompts, recorded.
            batch_size: Candidates of one pass, or "auto".
        """
        super().__init__(model, token_ids, batch_size=batch_size)
        self._replay = replay

    def ablated(
        self, vectors: Float[Tensor, "candidate d_model"], pairs: Sequence[Pair], consume: Callable[[Answered], None]
    ) -> None:
        """As in `TiledPasses`."""
        self._walk(vectors, None, pairs, consume)

    def added(
        self,
        vectors: Float[Tensor, "candidate d_model"],
        layers: Sequence[int],
        pairs: Sequence[Pair],
        consume: Callable[[Answered], None],
    ) -> None:
        """As in `TiledPasses`."""
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
                self._replay.walk(placed[some], at, prompts, tokens=self._tokens(prompts), consume=answer)

            size = self._candidates_at_once(prompts)
            chunks = (ordered[start : start + size] for start in range(0, len(ordered), size))
            for _ in run_shrinking(chunks, compute):
                pass

    def _tokens(self, prompts: Sequence[int]) -> int:
        if self._batch_size != "auto":
            return self._batch_size * max(len(self._ids[prompt]) for prompt in prompts)
        return CPU_TOKENS if self._model.device.type == "cpu" else ACCELERATOR_TOKENS

    def _candidates_at_once(self, prompts: Sequence[int]) -> int:
        longest = max(len(self._ids[prompt]) for prompt in prompts)
        keys = CPU_KEY_BYTES if self._model.device.type == "cpu" else ACCELERATOR_KEY_BYTES
        return max(1, min(self._tokens(prompts) // longest, keys // max(1, self._replay.key_bytes())))


def passes_for(model: LensModel, token_ids: Sequence[Sequence[int]], *, batch_size: BatchSize = "auto") -> TiledPasses:
    """Passes for a model and prompts.

    Args:
        model: The model.
        token_ids: Rendered prompts.
        batch_size: Rows of one pass, or "auto".

    Returns:
        Passes whose results equal the model's own forward passes.
    """
    tiled = TiledPasses(model, token_ids, batch_size=batch_size)
    probes = sorted({_extreme(token_ids, min), _extreme(token_ids, max)})
    wanted = _probe(tiled, model, probes)
    for way in WAYS:
        try:
            passes = ReplayPasses(model, token_ids, Replay(model, token_ids, **way), batch_size=batch_size)
            found = _probe(passes, model, probes)
        except _UNSUPPORTED as error:
            if is_out_of_memory(error):
                raise
            log.info("replay %s is not supported here: %s", way, error)
            continue
        difference = max(float((one - two).abs().max()) for one, two in zip(found, wanted, strict=True))
        scale = max(float(item.abs().max()) for item in wanted)
        if difference <= TOLERANCE.get(model.dtype, COARSE_TOLERANCE) * scale:
            return passes
        log.info("replay %s differs by %.1e of %.1e", way, difference, scale)
    log.info("%s: blocks cannot be replayed, sweeping with whole forward passes", type(model.hf).__name__)
    return tiled


def _extreme(token_ids: Sequence[Sequence[int]], which: Callable[[Sequence[int]], int]) -> int:
    lengths = [len(ids) for ids in token_ids]
    return lengths.index(which(lengths))


def _probe(passes: TiledPasses, model: LensModel, prompts: Sequence[int]) -> list[Tensor]:
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
