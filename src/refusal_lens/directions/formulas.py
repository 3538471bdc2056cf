"""The two numbers behind every score: refusal score and KL divergence, both from last-position logits, in float64.

Published arithmetic (its epsilons are part of the published numbers):
    p        = summed softmax probability of the refusal tokens
    refusal  = log(p + 1e-8) - log(1 - p + 1e-8)                      nats, within +-18.42
    KL       = sum_v p_v (log(p_v + 1e-6) - log(q_v + 1e-6))          nats; p before, q after the intervention
Exact arithmetic: the log-odds and the KL divergence themselves, from log-sum-exp, without epsilon. The published KL is
truncated: on peaked logits it reports 12.8 where the true value is 25.2.

It runs no model. Source: `select_direction.py` of Arditi et al. 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from refusal_lens.model import in_float64
from refusal_lens.model.batches import on_device

Arithmetic: TypeAlias = Literal["published", "exact"]

REFUSAL_EPSILON = 1e-8
KL_EPSILON = 1e-6
ROWS = 64
"""Rows of logits held in float64 at a time: a whole sweep's would be gigabytes with a large vocabulary."""


def refusal_score(
    logits: Float[Tensor, "prompt vocab"], token_ids: Sequence[int], *, arithmetic: Arithmetic = "published"
) -> Float[Tensor, " prompt"]:
    """Log-odds of the refusal tokens' total probability as the next token.

    Args:
        logits: Last-position logits, any floating dtype.
        token_ids: Refusal tokens; at least one, each below the vocabulary's size.
        arithmetic: "published" adds the epsilons, "exact" does not.

    Returns:
        float64 [prompt], nats; positive when refusing is likelier than not.
    """
    ids = on_device(sorted(set(token_ids)), logits.device)
    return torch.cat([_refusal_score(part, ids, arithmetic) for part in logits.split(ROWS)])


def _refusal_score(logits: Tensor, token_ids: Tensor, arithmetic: Arithmetic) -> Tensor:
    wide = in_float64(logits)
    ids = token_ids.to(wide.device)
    total = wide.logsumexp(dim=-1)
    refusing = wide.index_select(-1, ids).logsumexp(dim=-1)
    if arithmetic == "exact":
        others = wide.index_fill(-1, ids, -torch.inf).logsumexp(dim=-1)
        return refusing - others
    p = (refusing - total).exp()
    return (p + REFUSAL_EPSILON).log() - (1 - p + REFUSAL_EPSILON).log()


class Divergence:
    """KL(before || after) of next-token distributions against fixed prompts; what depends on `before` is computed once."""

    def __init__(self, before: Float[Tensor, "prompt vocab"], *, arithmetic: Arithmetic = "published") -> None:
        """Keep the probabilities of the unchanged model.

        Args:
            before: Last-position logits without intervention.
            arithmetic: "published" adds the epsilon to every probability, "exact" does not.
        """
        log_p = in_float64(before).log_softmax(dim=-1)
        self._p = log_p.exp()
        self._arithmetic: Arithmetic = arithmetic
        inner = self._p if arithmetic == "exact" else self._p + KL_EPSILON
        self._own = torch.xlogy(self._p, inner).sum(dim=-1)

    def __call__(self, after: Float[Tensor, "row vocab"], *, prompts: Sequence[int]) -> Float[Tensor, " row"]:
        """Divergence of each row from its prompt's distribution.

        Args:
            after: Last-position logits under an intervention.
            prompts: For each row, the index of its prompt in `before`.

        Returns:
            float64 [row], nats.
        """
        rows = on_device(prompts, self._p.device)
        parts = zip(after.split(ROWS), rows.split(ROWS), strict=True)
        return torch.cat([self._of(part, prompts_of) for part, prompts_of in parts])

    def _of(self, after: Tensor, rows: Tensor) -> Tensor:
        p = self._p[rows]
        log_q = in_float64(after).log_softmax(dim=-1)
        if self._arithmetic == "exact":  # what never occurs costs nothing, even where q is 0 too
            return self._own[rows] - torch.linalg.vecdot(p, log_q.masked_fill_(p == 0, 0.0))
        return self._own[rows] - torch.linalg.vecdot(p, log_q.exp_().add_(KL_EPSILON).log_())
