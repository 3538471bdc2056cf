"""The race: find the candidate the full sweep would choose without measuring all of them.

1. Leave out the last 20 % of layers.
2. Measure refusal on a few harmful prompts for everybody still in the race.
3. Walk from the best mean down: measure the rest of what the rule reads of that candidate (KL, and steering under
   "arditi"), stopping as soon as it must fail. Its KL must fail once the sum over some prompts exceeds n * limit, since
   no prompt contributes less than nothing. The first that passes is the leader.
4. Drop every candidate that is behind the leader: paired differences per prompt, one-sided Student t at level
   `ALPHA`, corrected for the finite set of prompts. Below `FIRST` prompts with the spread of all candidates together.
5. Double the prompts and go to 2 until all are used: who is left is measured exactly, and the best of them is chosen.

Limits are checked exactly; only step 4 is statistical. Candidates that dropped out have no refusal score, and say so.
On an accelerator, where a pass of a few rows takes as long as one of a hundred, step 3 first looks at several candidates
at once, and at all prompts of one that may pass; the choice is the same.
It cannot find what the few prompts hide: a candidate whose advantage sits in prompts not yet seen may be dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from scipy import stats

from refusal_lens.directions.evaluation import Evaluation
from refusal_lens.directions.sweep import Limits

ALPHA = 1e-3
FIRST = 8
"""Harmful prompts of the first stage; half of those given where they are fewer than twice as many, never under `FEWEST`."""
FEWEST = 4
WIDE = 8
"""Candidates looked at together, and how many times more prompts at the second look, where small passes are dear."""
KL_SLACK = 0.01
"""Nats by which the published, truncated KL of a prompt may fall below zero."""


@dataclass
class _Race:
    evaluation: Evaluation
    limits: Limits
    running: list[int]
    wide: bool
    notes: dict[int, str] = field(default_factory=dict[int, str])

    def seen(self, rows: int) -> range:
        """Harmful prompts of a stage: every (n / rows)-th would need an order; files are not sorted, so the first ones."""
        return range(min(rows, self.evaluation.refusal.n_prompts))

    def valid(self, row: int, following: Sequence[int]) -> bool:
        """Whether a candidate passes all limits; measures only as much as that takes, and a little of those that follow."""
        total = self.evaluation.divergence.n_prompts
        count = min(FEWEST, total)
        self.evaluation.ablate([row, *(following[: WIDE - 1] if self.wide else ())], harmless=range(count))
        while True:
            self.evaluation.ablate([row], harmless=range(count))
            spent = float(self.evaluation.divergence.values[row, :count].sum())
            ceiling = total * self.limits.kl + (total - count) * KL_SLACK
            if spent > ceiling or (count == total and not spent / total <= self.limits.kl):
                self.notes[row] = (
                    f"not measured further: KL surely above {self.limits.kl:g} after {count} of {total} prompts"
                )
                return False
            if count == total:
                break
            count = min((WIDE if self.wide else 2) * count, total)
        if self.limits.rule == "arditi":
            self.evaluation.add([row], harmless=range(total))
            if not (self.evaluation.steering.mean(row) or 0.0) >= 0:
                self.notes[row] = "not measured further: steering score below 0"
                return False
        return True


def first_stage(prompts: int) -> int:
    """Harmful prompts of the first stage."""
    return min(FIRST, max(FEWEST, prompts // 2), prompts)


def race(evaluation: Evaluation, limits: Limits, *, wide: bool = False) -> dict[int, str]:
    """Fill just enough cells to know whom the full sweep would choose.

    Args:
        evaluation: Tables of candidates and prompts.
        limits: The rule.
        wide: Fewer and larger passes, with a few cells more.

    Returns:
        Why a candidate lacks scores, by row.
    """
    every = range(len(evaluation.layers))
    notes = {row: limits.late_note() for row in every if evaluation.layers[row] >= limits.layer}
    state = _Race(evaluation, limits, [row for row in every if row not in notes], wide, notes)
    total = evaluation.refusal.n_prompts
    count = first_stage(total)
    leader: int | None = None
    while state.running:
        evaluation.ablate(state.running, harmful=state.seen(count))
        leader = _leader(state, count)
        if leader is None or count == total:
            break
        _drop_behind(state, leader, count)
        count = min(2 * count, total)
    if leader is not None:
        evaluation.add([leader], harmless=range(evaluation.steering.n_prompts))
    else:  # nobody passes: the report still names the best candidate there would have been
        best = _by_mean(state.evaluation, [row for row in every if evaluation.layers[row] < limits.layer], count)[:1]
        evaluation.ablate(best, harmful=range(total), harmless=range(evaluation.divergence.n_prompts))
    for row in state.running:
        if None in evaluation.means(row):
            notes.setdefault(row, "race: measured in full only as far as the choice needs it")
    return notes


def _leader(state: _Race, count: int) -> int | None:
    """The best running candidate that passes all limits; those tried before it that fail leave the race."""
    ranked = _by_mean(state.evaluation, state.running, count)
    for place, row in enumerate(ranked):
        if state.valid(row, ranked[place + 1 :]):
            return row
        state.running.remove(row)
    return None


def _by_mean(evaluation: Evaluation, rows: Sequence[int], count: int) -> list[int]:
    def mean(row: int) -> float:
        value = float(evaluation.refusal.values[row, :count].mean())
        return math.inf if math.isnan(value) else value

    return sorted(rows, key=mean)


def _drop_behind(state: _Race, leader: int, count: int) -> None:
    total = state.evaluation.refusal.n_prompts
    values = state.evaluation.refusal.values[:, :count].numpy()
    if count < 2:
        return
    spread = {row: float((values[row] - values[leader]).std(ddof=1)) for row in state.running}
    least, freedom = 0.0, count - 1
    if (
        count < FIRST
    ):  # a spread from a few prompts is a guess: none counts as smaller than that of all candidates together
        least, freedom = math.sqrt(sum(item**2 for item in spread.values()) / len(spread)), (count - 1) * len(spread)
    quantile = float(stats.t.ppf(1 - ALPHA, freedom))
    left = math.sqrt(1 - count / total)
    for row in list(state.running):
        margin = float((values[row] - values[leader]).mean())
        error = max(spread[row], least) / math.sqrt(count) * left
        if row != leader and not margin <= quantile * error:
            state.running.remove(row)
            state.notes[row] = f"race: behind the leader by {margin:.3g} on {count} of {total} harmful prompts"
