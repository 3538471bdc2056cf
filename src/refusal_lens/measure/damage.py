"""What an intervention costs on harmless text: KL(base || changed) and cross-entropy before and after, in nats per token.

The model runs elsewhere; here per-prompt values become means with a bootstrap interval over prompts. A low KL says that
the next tokens are nearly the same, not that the answers are as good: over-refusal and topic are other tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from refusal_lens.core.tables import DamageRow
from refusal_lens.measure.paired import RESAMPLES, BootstrapWeights, bootstrap_means


@dataclass(frozen=True)
class Damage:
    """Per-prompt damage of one cell.

    Attributes:
        prompt_ids: One per prompt.
        kl: KL divergence of the next-token distribution, nats.
        before: Cross-entropy of the prompt's own text without the intervention, nats per token.
        after: The same with the intervention.
    """

    prompt_ids: Sequence[str]
    kl: Float[np.ndarray, " prompt"]
    before: Float[np.ndarray, " prompt"]
    after: Float[np.ndarray, " prompt"]


def damage_row(
    cell: Damage, *, intervention: str, source: str, language: str, resamples: int = RESAMPLES, seed: int = 0
) -> DamageRow:
    """One row of the `damage` table.

    Args:
        cell: Per-prompt values, at least one.
        intervention: Name of the intervention.
        source: Name of the direction.
        language: Language of the prompts.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        The contract's columns, then kl_low, kl_high, increase (of the cross-entropy), increase_low, increase_high, n.
    """
    weights = BootstrapWeights(cell.prompt_ids, resamples=resamples, seed=seed).of(cell.prompt_ids)
    increase = (cell.after - cell.before).astype(np.float64)
    kl_low, kl_high = np.quantile(bootstrap_means(cell.kl.astype(np.float64), weights=weights), (0.025, 0.975))
    low, high = np.quantile(bootstrap_means(increase, weights=weights), (0.025, 0.975))
    return {
        "intervention": intervention,
        "source": source,
        "language": language,
        "kl": float(cell.kl.mean()),
        "cross_entropy_before": float(cell.before.mean()),
        "cross_entropy_after": float(cell.after.mean()),
        "kl_low": float(kl_low),
        "kl_high": float(kl_high),
        "increase": float(increase.mean()),
        "increase_low": float(low),
        "increase_high": float(high),
        "n": len(cell.prompt_ids),
    }
