"""Step `verdicts`: what the judge makes of each answer of a shard, thoughts left out, in the answer's own language.

Where a prompt names its topic (testbed), a complied answer is also checked for it. Thoughts are read by the native judge,
whoever reads the answers: whether the model refuses there already. The proof that the cell's intervention
acted is passed on: completions may be scrubbed, what was measured of them stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from refusal_lens.core.tables import EARLY_STOPS, PANEL, VERDICTS, EarlyStopRow, PanelRow, VerdictRow
from refusal_lens.judging import Answer, NativeJudge, judge_whole
from refusal_lens.pipeline.cells import Pass, pass_of
from refusal_lens.pipeline.dataset import test_part
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tools
from refusal_lens.pipeline.steps.completions import SHARES, CompletionRow
from refusal_lens.pipeline.steps.completions import TABLE as COMPLETIONS
from refusal_lens.pipeline.steps.prompts import read_prompts
from refusal_lens.testbed import on_topic
from refusal_lens.types import Prompt, Verdict

SHARD = replace(VERDICTS, final=False)
VOTES = replace(PANEL, final=False)
EARLY = replace(EARLY_STOPS, final=False)


@dataclass(frozen=True)
class Params:
    """The pass whose answers are judged, and the name of the judge that reads their thoughts."""

    cells: Pass
    thoughts: str


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each shard of completions."""
    reader = NativeJudge().name
    for task in planning.tasks("completions"):
        shared = pass_of(task.params["cells"])
        part = f"prompts/{test_part(shared.language, shared.prompt_set)}"
        yield Ask(task.name, Params(shared, reader), (task.task_id, part))


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Judge the shard's answers."""
    shared = params.cells
    (part,) = inputs.of("prompts").values()
    (shard,) = inputs.of("completions").values()
    by_id = {prompt.prompt_id: prompt for prompt in read_prompts(inputs, part, harm=shared.prompts)}
    pairs = [(by_id[row["prompt_id"]], row) for row in inputs.rows(COMPLETIONS, shard)]
    answers = [
        Answer(
            text=row["text"],
            language=shared.language,
            prompt=prompt.for_judge,
            finished=row["finished"],
            opened=bool(row["opened"]),
        )
        for prompt, row in pairs
    ]
    judged = judge_whole(tools.judge, answers)
    rows: list[VerdictRow] = [
        {
            "intervention": shared.intervention,
            "source": row["source"],
            "language": shared.language,
            "prompts": shared.prompts,
            "prompt_id": prompt.prompt_id,
            "label": whole.verdict.label,
            "score": whole.verdict.score,
            "uncertain": whole.verdict.uncertain,
            "reason": whole.verdict.reason,
            "judge": whole.verdict.judge,
            "answer_language": whole.verdict.language,
            "off_language": whole.verdict.off_language,
            "truncated": whole.verdict.truncated and not row["stopped"],
            "on_topic": _on_topic(prompt, whole.verdict, whole.answer),
            "reading": whole.verdict.reading,
            "evidence": json.dumps([[item.group, item.start, item.end] for item in whole.verdict.evidence]),
            "prompt_set": shared.prompt_set or prompt.prompt_set,
            "thoughts": whole.thoughts,
        }
        for (prompt, row), whole in zip(pairs, judged, strict=True)
    ]
    votes: list[PanelRow] = [
        {
            "intervention": row["intervention"],
            "source": row["source"],
            "language": row["language"],
            "prompts": row["prompts"],
            "prompt_id": row["prompt_id"],
            "prompt_set": row["prompt_set"],
            "judge": each.judge,
            "label": each.label,
            "score": each.score,
            "uncertain": each.uncertain,
            "reason": each.reason,
            "reading": each.reading,
        }
        for row, whole in zip(rows, judged, strict=True)
        for each in whole.verdict.panel
    ]
    early = early_stops(rows, [row for _, row in pairs])
    further = [*([Rows(VOTES, votes)] if votes else []), *([Rows(EARLY, early)] if early else [])]
    return [Rows(SHARD, rows), Rows(SHARES, inputs.rows(SHARES, shard)), *further]


def votes_in(inputs: Inputs) -> list[PanelRow]:
    """Every judge's verdicts of all shards; none where one judge alone judged."""
    shards = [task_id for task_id in inputs.of("verdicts").values() if inputs.has(task_id, f"{VOTES.name}.parquet")]
    return [row for task_id in shards for row in inputs.rows(VOTES, task_id)]


def early_stops(verdicts: Sequence[VerdictRow], written: Sequence[CompletionRow]) -> list[EarlyStopRow]:
    """Answers that a rule stopped, and the verdicts of those that it would have stopped; no row where none was asked to."""
    rows: dict[str, EarlyStopRow] = {}
    for verdict, answer in zip(verdicts, written, strict=True):
        if answer["decided_early"] is None:
            continue
        row = rows.setdefault(
            verdict["source"],
            {
                "intervention": verdict["intervention"],
                "source": verdict["source"],
                "language": verdict["language"],
                "prompts": verdict["prompts"],
                "prompt_set": verdict["prompt_set"],
                "checked": 0,
                "changed": 0,
                "stopped": 0,
            },
        )
        row["stopped"] = (row["stopped"] or 0) + bool(answer["stopped"])
        row["checked"] += answer["decided_early"]
        row["changed"] += answer["decided_early"] and verdict["label"] != "refused"
    return list(rows.values())


def in_order(shards: Iterable[list[VerdictRow]]) -> list[VerdictRow]:
    """Verdicts of many shards as a reader wants them: one direction after the other, all its languages together."""
    rows = [row for shard in shards for row in shard]
    place: dict[tuple[str | None, str, str], int] = {}
    for row in rows:
        place.setdefault((row["prompt_set"], row["intervention"], row["source"]), len(place))
    return sorted(rows, key=lambda row: place[row["prompt_set"], row["intervention"], row["source"]])


def _on_topic(prompt: Prompt, verdict: Verdict, answer: str) -> bool | None:
    if prompt.topic is None or verdict.label != "complied":
        return None
    return on_topic(prompt, answer)


STEP = Step(
    name="verdicts",
    version=8,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("judge",),
    reads=("completions", "prompts"),
    tables=(SHARD, SHARES, VOTES, EARLY),
)
