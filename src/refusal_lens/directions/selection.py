"""Pick one candidate by a published rule and say why each discarded one was discarded.

Filters, in order: a score that is not a number; the last 20 % of layers (layer >= int(0.8 n)); KL > threshold (strict);
under the rule "arditi" also steering score < 0. Among the survivors the lowest refusal score wins; ties go to the first
in sweep order (position -5 before -4, low layer before high), which is what the published stable sort does.

One addition to the published rules: a candidate that is exactly a zero vector (layer 0 at template positions) changes
nothing and is dropped by name. It could win a published run only if every other survivor made refusal stronger.

It measures nothing; a rule without survivors is an answer (`selected is None` with a reason), never an exception.

Source: `select_direction.py` of Arditi et al. 2024 and of Wang et al. 2025 (who turned the steering filter off).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from refusal_lens.directions.score_files import CandidateScore
from refusal_lens.types import Rule

KL_THRESHOLDS: dict[Rule, float] = {"paper": 0.2, "arditi": 0.1}
PRUNED_SHARE = 0.2
ZERO_VECTOR = "zero vector: the same token stands here in every prompt, so there is no difference to ablate or add"


@dataclass(frozen=True, slots=True)
class Discarded:
    """A candidate the rule dropped.

    Attributes:
        candidate: The dropped candidate.
        reason: Every filter it failed, joined by "; ".
    """

    candidate: CandidateScore
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Outcome of a selection rule.

    Attributes:
        selected: The chosen candidate, or None when nothing survives.
        best_discarded: When nothing survives, the candidate that failed the fewest filters (lowest refusal score among
            these); None otherwise.
        survivors: All candidates that pass the filters, best first.
        discarded: Every dropped candidate with its reason, in sweep order.
        rule: Name of the rule.
        kl_threshold: Threshold used, in nats.
        reason: Why nothing survives (which filter dropped how many), or why the selected one was chosen.
    """

    selected: CandidateScore | None
    best_discarded: CandidateScore | None
    survivors: tuple[CandidateScore, ...]
    discarded: tuple[Discarded, ...]
    rule: Rule
    kl_threshold: float
    reason: str


def layer_limit(n_layers: int) -> int:
    """First layer of the last 20 %, whose candidates every rule drops: int(0.8 n), in the published arithmetic."""
    return int(n_layers * (1.0 - PRUNED_SHARE))


def select(
    scores: Sequence[CandidateScore], *, n_layers: int, rule: Rule = "paper", kl_threshold: float | None = None
) -> Selection:
    """Choose the candidate direction by a rule.

    Args:
        scores: Candidates in sweep order (position outer, -5 first; layer inner).
        n_layers: Number of layers of the model.
        rule: "paper" (KL <= 0.2) or "arditi" (KL <= 0.1 and steering score >= 0).
        kl_threshold: Another limit for the KL score, in nats.

    Returns:
        The choice and the fate of every candidate; never raises.
    """
    threshold = KL_THRESHOLDS[rule] if kl_threshold is None else kl_threshold
    zero = _zero_vectors(scores)
    survivors: list[CandidateScore] = []
    dropped: list[tuple[CandidateScore, list[tuple[str, str]]]] = []
    for item in scores:
        failed = _failures(item, layer_limit(n_layers), rule, threshold, is_zero=(item.position, item.layer) in zero)
        if failed:
            dropped.append((item, failed))
        else:
            survivors.append(item)
    survivors.sort(key=_refusal)
    discarded = tuple(Discarded(item, "; ".join(text for _, text in failed)) for item, failed in dropped)
    if survivors:
        best = survivors[0]
        reason = f"lowest refusal score under ablation among {len(survivors)} of {len(scores)} candidates that pass rule {rule!r}"
        return Selection(best, None, tuple(survivors), discarded, rule, threshold, reason)
    eligible = [
        (len(failed), _refusal(item), item) for item, failed in dropped if (item.position, item.layer) not in zero
    ]
    nearest = min(eligible, key=lambda entry: entry[:2])[2] if eligible else None
    return Selection(None, nearest, (), discarded, rule, threshold, _none_left(dropped, rule, threshold))


def _refusal(item: CandidateScore) -> float:
    value = item.refusal_score
    return value if value is not None and not math.isnan(value) else math.inf


def _failures(
    item: CandidateScore, limit: int, rule: Rule, threshold: float, *, is_zero: bool
) -> list[tuple[str, str]]:
    """(filter, reason) of every filter the candidate fails; the first element groups reasons for counting."""
    failed: list[tuple[str, str]] = []
    if is_zero:
        failed.append(("zero vector", ZERO_VECTOR))
    measured = {"refusal": item.refusal_score, "steering": item.steering_score, "KL": item.kl_div_score}
    absent = [name for name, value in measured.items() if value is not None and math.isnan(value)]
    if absent:
        failed.append(("score not a number", f"{' and '.join(absent)} score is not a number"))
    if item.layer >= limit:
        failed.append(("last 20 % of layers", f"layer {item.layer} is in the last 20 % of layers (from {limit} on)"))
    kl, steering = item.kl_div_score, item.steering_score
    if kl is not None and kl > threshold:
        failed.append((f"KL > {threshold:g}", f"KL {kl:.4g} > {threshold:g}: ablating it changes harmless answers"))
    if rule == "arditi" and steering is not None and steering < 0:
        failed.append(("steering score < 0", f"steering score {steering:.4g} < 0: adding it does not induce refusal"))
    needed = [item.refusal_score, item.kl_div_score, *([item.steering_score] if rule == "arditi" else [])]
    if not failed and None in needed:
        failed.append(("not measured", item.skipped or "a score the rule needs was not measured"))
    return failed


def _zero_vectors(scores: Sequence[CandidateScore]) -> set[tuple[int, int]]:
    """Candidates known or seen to be zero vectors.

    The sweep names them. In a foreign file they show as layer-0 candidates with a KL of exactly 0 that share all their
    scores with another one at layer 0: only a vector that changes nothing leaves every number at the baseline's.
    """
    named = {(item.position, item.layer) for item in scores if item.skipped == ZERO_VECTOR}
    idle = [item for item in scores if item.layer == 0 and item.kl_div_score == 0.0]
    alike = Counter((item.refusal_score, item.steering_score) for item in idle)
    seen = {(item.position, item.layer) for item in idle if alike[item.refusal_score, item.steering_score] > 1}
    return named | seen


def _none_left(dropped: Sequence[tuple[CandidateScore, list[tuple[str, str]]]], rule: Rule, threshold: float) -> str:
    if not dropped:
        return "no valid direction: there are no candidates to choose from"
    counts = Counter(name for _, failed in dropped for name, _ in failed)
    parts = ", ".join(f"{name}: {count}" for name, count in counts.items())
    return (
        f"no valid direction: none of {len(dropped)} candidates passes rule {rule!r} with KL limit {threshold:g} "
        f"({parts}; a candidate can fail several)"
    )
