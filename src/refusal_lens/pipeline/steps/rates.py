"""Step `rates`: rates with intervals, unscored answers by reason, refusals in thoughts, and every verdict, without text.

Of a panel of judges also every judge's verdicts, and how far they agree. Beside each rate under an intervention stands
the proof that it acted: the share along its direction before and after.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from refusal_lens.core.tables import (
    AGREEMENT,
    EARLY_STOPS,
    PANEL,
    RATES,
    THOUGHTS,
    UNSCORED,
    VERDICTS,
    EarlyStopRow,
    PanelRow,
    RateRow,
    UnscoredRow,
)
from refusal_lens.judging.panel import Vote, agreement_rows
from refusal_lens.measure import rate_rows
from refusal_lens.measure.thoughts import thought_rows
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tools
from refusal_lens.pipeline.steps.completions import SHARES, ShareRow
from refusal_lens.pipeline.steps.verdicts import EARLY, SHARD, in_order, votes_in
from refusal_lens.types import VerdictLabel

log = logging.getLogger(__name__)

_ANSWER = ("intervention", "source", "language", "prompts", "prompt_id", "prompt_set")


@dataclass(frozen=True)
class Params:
    """Nothing: verdicts say everything."""


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task over all verdicts."""
    yield Ask("all", Params(), planning.ids("verdicts"))


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:  # noqa: ARG001
    """Count."""
    verdicts = in_order(inputs.rows(SHARD, task_id) for task_id in inputs.of("verdicts").values())
    counted = Counter(
        (row["intervention"], row["source"], row["language"], row["prompts"], row["prompt_set"], row["reason"])
        for row in verdicts
        if row["label"] == "unscored"
    )
    unscored: list[UnscoredRow] = [
        {
            "intervention": intervention,
            "source": source,
            "language": language,
            "prompts": prompts,
            "reason": reason,
            "n": n,
            "prompt_set": prompt_set,
        }
        for (intervention, source, language, prompts, prompt_set, reason), n in counted.items()
    ]
    rates = rate_rows(verdicts)
    shares: dict[tuple[str, str, str, str, str | None], list[ShareRow]] = {}
    for task_id in inputs.of("verdicts").values():
        for row in inputs.rows(SHARES, task_id):
            shares.setdefault(_cell(row), []).append(row)
    for row in rates:
        row["share_before"] = _mean([share["share_before"] for share in shares.get(_cell(row), ())])
        row["share_after"] = _mean([share["share_after"] for share in shares.get(_cell(row), ())])
    outputs = [Rows(VERDICTS, verdicts), Rows(RATES, rates), Rows(UNSCORED, unscored)]
    panel = votes_in(inputs)
    found = [Rows(PANEL, panel), Rows(AGREEMENT, agreement_rows(_by_answer(panel)))] if panel else []
    return [*outputs, Rows(THOUGHTS, thought_rows(verdicts)), *found, *_early_stops(inputs)]


def _by_answer(panel: Sequence[PanelRow]) -> list[list[Vote]]:
    """Of every answer, what each judge said."""
    votes: dict[tuple[str | None, ...], list[Vote]] = {}
    for row in panel:
        answer = tuple(row[name] for name in _ANSWER)
        votes.setdefault(answer, []).append((row["language"], row["judge"], cast("VerdictLabel", row["label"])))
    return list(votes.values())


def _early_stops(inputs: Inputs) -> list[Output]:
    """The cells' counts over their shards, where a rule stopped answers; and a warning where that changed a verdict."""
    cells: dict[tuple[str, str, str, str, str | None], EarlyStopRow] = {}
    shards = [task_id for task_id in inputs.of("verdicts").values() if inputs.has(task_id, f"{EARLY.name}.parquet")]
    for task_id in shards:
        for row in inputs.rows(EARLY, task_id):
            known = cells.setdefault(_cell(row), row)
            if known is not row:
                known["checked"] += row["checked"]
                known["changed"] += row["changed"]
                known["stopped"] = (known["stopped"] or 0) + (row["stopped"] or 0)
    checked, changed = sum(row["checked"] for row in cells.values()), sum(row["changed"] for row in cells.values())
    if changed:
        log.warning(
            "--stop-when-decided: %d of the %d sampled answers that it would have stopped as refusals were none when read to "
            "their end; rates of this run are that uncertain",
            changed,
            checked,
        )
    return [Rows(EARLY_STOPS, list(cells.values()))] if cells else []


def _cell(row: RateRow | ShareRow | EarlyStopRow) -> tuple[str, str, str, str, str | None]:
    return row["intervention"], row["source"], row["language"], row["prompts"], row["prompt_set"]


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean over shards; None where a direction had nothing to measure."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


STEP = Step(
    name="rates",
    version=6,
    params=Params,
    plan=plan,
    compute=compute,
    reads=("verdicts",),
    tables=(VERDICTS, RATES, UNSCORED, THOUGHTS, EARLY_STOPS, PANEL, AGREEMENT),
    published=True,
)
