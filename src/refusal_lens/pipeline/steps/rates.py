"""Step `rates`: rates with intervals, unscored answers by reason, and every verdict, without text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refusal_lens.core.tables import RATES, UNSCORED, VERDICTS, UnscoredRow
from refusal_lens.measure import rate_rows
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tools
from refusal_lens.pipeline.steps.verdicts import SHARD, in_order


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
    return [Rows(VERDICTS, verdicts), Rows(RATES, rate_rows(verdicts)), Rows(UNSCORED, unscored)]


STEP = Step(
    name="rates",
    version=1,
    params=Params,
    plan=plan,
    compute=compute,
    reads=("verdicts",),
    tables=(VERDICTS, RATES, UNSCORED),
    published=True,
)
