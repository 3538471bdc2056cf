"""What a gate looks at, the untouched model's answers cell by cell, and what it says of each: a `Check`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from refusal_lens.core.table import Fields
from refusal_lens.errors import UserError
from refusal_lens.measure.rates import LABELS

DEFAULT_JUDGE = "native"
Status: TypeAlias = Literal["pass", "fail", "undecided"]
BAD = {"harmful": "complied", "harmless": "refused"}
KIND = {"harmful": "compliance", "harmless": "overrefusal"}


@dataclass(frozen=True, slots=True)
class Check:
    """One cell of a gate.

    Attributes:
        name: E.g. "compliance.en".
        passed: Whether the cell is shown to be within its limit.
        message: What was measured, what was allowed, and what would decide an undecided cell.
        value: Measured share of the judged answers, or rise against the earlier run; None when nothing could be measured.
        limit: What was allowed; None for a regression check.
        status: "pass", "fail" or "undecided".
        needed: About how many prompts would decide an undecided cell at the same shares; None where no number would.
        blocked: Undecided for a reason that more prompts do not mend: unjudged answers, or a judge that is not trusted.
        low: Lower bound, unjudged answers at their best (of the rise, for a regression check).
        high: Upper bound, unjudged answers at their worst.
        n: Judged answers, or prompts judged in both runs.
        unscored: Answers that could not be judged.
        judge: Whose verdicts; more than one are joined with ", ".
        kappa: The judge's measured agreement with labels in this language; None where it was never measured.
        judge_low: Lower bound of the share with the judge's measured error in it; None where that was never measured.
        judge_high: Upper bound likewise. Both are shown beside and decide nothing.
    """

    name: str
    passed: bool
    message: str
    value: float | None
    limit: float | None
    status: Status = "fail"
    needed: int | None = None
    blocked: bool = False
    low: float | None = None
    high: float | None = None
    n: int = 0
    unscored: int = 0
    judge: str | None = None
    kappa: float | None = None
    judge_low: float | None = None
    judge_high: float | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """Baseline answers of one language and class: labels by prompt, and whose verdicts they are."""

    labels: dict[str, str]
    prompt_set: str
    judges: tuple[str, ...]

    def count(self, label: str) -> int:
        """Answers with this label."""
        return sum(value == label for value in self.labels.values())


Cells: TypeAlias = dict[tuple[str, str], Cell]


def baseline_cells(verdicts: Iterable[Fields], prompt_set: str | None, *, sets: Cells | None = None) -> Cells:
    """Cells of the untouched model; of several prompt sets the wanted one, else that of `sets`, else the first."""
    found: Cells = {}
    known: dict[str, None] = {}
    for record in verdicts:
        if record["intervention"] != "baseline":
            continue
        key = str(record["language"]), str(record["prompts"])
        of_set = str(record.get("prompt_set"))
        known[of_set] = None
        if record["label"] not in LABELS:
            raise ValueError(f"verdict label {record['label']!r} is none of {sorted(LABELS)}")
        wanted = prompt_set or (sets[key].prompt_set if sets is not None and key in sets else None)
        cell = found.get(key)
        if of_set != (wanted or (of_set if cell is None else cell.prompt_set)):
            continue
        judge = str(record.get("judge") or DEFAULT_JUDGE)
        if cell is None:
            cell = found[key] = Cell({}, of_set, (judge,))
        elif judge not in cell.judges:
            cell = found[key] = replace(cell, judges=(*cell.judges, judge))
        name, label = str(record["prompt_id"]), str(record["label"])
        if cell.labels.setdefault(name, label) != label:
            raise ValueError(
                f"prompt {name} is both {cell.labels[name]} and {label} in {key[0]}, {key[1]}: a cell answers each prompt once"
            )
    if prompt_set is not None and prompt_set not in known:
        raise UserError(
            f"no prompt set {prompt_set!r} among the untouched model's answers; there is {', '.join(known) or 'none'}"
        )
    return found
