"""Step `completions`: what the model answers in one pass.

A pass asks the same prompts under one intervention from one or several directions, each row with its own. Passes of one kind
(same intervention, whatever the prompts) are answered together where they are ready together. Answers under a direction that
does not exist are not generated: they are absent. Completion text is written only here, in the run directory.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict

from refusal_lens.core.interventions import declared
from refusal_lens.core.names import BASELINE
from refusal_lens.core.table import Table
from refusal_lens.directions import Direction
from refusal_lens.interventions import FiredProof, require_fired
from refusal_lens.model import Generated, LensModel
from refusal_lens.pipeline.cells import CellName, Pass, passes
from refusal_lens.pipeline.dataset import test_part
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tool, Tools
from refusal_lens.pipeline.steps.answering import Asked, Shard, Stopping, answer, in_one_batch
from refusal_lens.pipeline.steps.direction import read_direction
from refusal_lens.pipeline.steps.prompts import read_prompts
from refusal_lens.types import JsonValue, Prompt


class CompletionRow(TypedDict):
    """One answer: its direction and prompt, text, length in tokens, whether it came to an end and began inside thoughts.

    `stopped`: a rule ended it as a refusal, before the limit; null without a rule.
    `decided_early`: the rule would have stopped it as a refusal, and it was written in full to check that; null without a rule.
    """

    source: str
    prompt_id: str
    text: str
    n_tokens: int | None
    finished: bool
    opened: bool | None
    stopped: bool | None
    decided_early: bool | None


class ShareRow(TypedDict):
    """How much of what is read lies along the direction of a cell, without its intervention and while it acted."""

    intervention: str
    source: str
    language: str
    prompts: str
    prompt_set: str | None
    share_before: float | None
    share_after: float | None


TABLE = Table("completions", CompletionRow, final=False)
SHARES = Table("shares", ShareRow, final=False)


@dataclass(frozen=True)
class Params:
    """One shard of a pass, and what is done to the model while it answers.

    Attributes:
        cells: The pass.
        first: First prompt of the shard, among those of the pass's class.
        size: Prompts of the shard, at most.
        max_new_tokens: Length limit of an answer.
        stop_when_decided: Stop an answer once the judge is sure of a refusal.
        options: Of the intervention; none for the baseline.
    """

    cells: Pass
    first: int
    size: int
    max_new_tokens: int
    stop_when_decided: bool
    options: dict[str, JsonValue]


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """The shards of every pass."""
    config, generation, chosen = planning.config, planning.config.generation, planning.config.interventions.chosen

    def prompts_of(cell: CellName | Pass) -> int:
        return planning.dataset.count(test_part(cell.language, cell.prompt_set), cell.prompts)

    for shared in passes(config, prompts_of=prompts_of):
        size = generation.shard_size
        directions = () if shared.intervention == BASELINE else tuple(f"direction/{name}" for name in shared.sources)
        for shard in range(-(-prompts_of(shared) // size)):
            params = Params(
                cells=shared,
                first=shard * size,
                size=size,
                max_new_tokens=generation.max_new_tokens,
                stop_when_decided=generation.stop_when_decided,
                options=chosen.get(shared.intervention, {}),
            )
            part = f"prompts/{test_part(shared.language, shared.prompt_set)}"
            yield Ask(shared.task_name(shard), params, (part, *directions))


def also_uses(params: Params) -> Collection[Tool]:
    """The judge, where it decides when an answer stops."""
    return ("judge",) if params.stop_when_decided else ()


def kind(params: Params) -> Hashable:
    """What shards must have in common to share a call of `generate`: all but their prompts, and a direction that is the only one.

    One direction can lie in the weights; from two on rows carry their own, and then it is all the same how many they are.
    """
    shared = params.cells
    only = shared.sources[0] if len(shared.sources) == 1 else None
    options = json.dumps(params.options, sort_keys=True)
    return shared.intervention, only, options, params.max_new_tokens, params.stop_when_decided


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Generate a shard's answers under each direction of its pass."""
    return together([(params, inputs)], tools)[0]


def together(asked: Sequence[tuple[Params, Inputs]], tools: Tools) -> Sequence[Sequence[Output]]:
    """Generate the answers of some shards of one kind: of as many, the first at least, as are one batch."""
    shards = [_shard(params, inputs) for params, inputs in asked]
    if tools.served is not None:  # which does not say how many tokens an answer has
        (params, _), shard = asked[0], shards[0]
        said = tools.served.answers(shard.texts, max_new_tokens=params.max_new_tokens)
        elsewhere = [Generated(answer.text, (), answer.finished) for answer in said]
        return [[Rows(TABLE, _rows(shard.asked, elsewhere, None)), Rows(SHARES, [])]]
    if not any(shard.asked for shard in shards):
        return [[Rows(TABLE, []), Rows(SHARES, [])] for _ in shards]
    first, limit = asked[0][0], asked[0][0].max_new_tokens
    shards = in_one_batch(tools.model, shards, limit, tools.engine, tools.batch_size)
    stops = [shard.stopping(tools.judge, tools.model) for shard in shards] if first.stop_when_decided else []
    generated, proof = answer(
        tools.model,
        shards,
        Asked(first.cells.intervention, first.options, limit),
        stops=stops,
        batch_size=tools.batch_size,
        engine=tools.engine,
    )
    made: list[Sequence[Output]] = []
    start = 0
    for place, shard in enumerate(shards):
        rows = range(start, start := start + len(shard.asked))
        found = _rows(shard.asked, generated[rows.start : rows.stop], stops[place] if stops else None)
        shares = _shares(proof, asked[place][0].cells, tools.model, shard.asked, rows)
        made.append([Rows(TABLE, found), Rows(SHARES, shares)])
    return made


def _shard(params: Params, inputs: Inputs) -> Shard:
    (part,) = inputs.of("prompts").values()
    prompts = read_prompts(inputs, part, harm=params.cells.prompts)[params.first : params.first + params.size]
    return Shard(params.cells.language, prompts, _directions(params.cells, inputs))


def _rows(
    asked: Sequence[tuple[str, Prompt]], generated: Sequence[Generated], stop: Stopping | None
) -> list[CompletionRow]:
    return [
        {
            "source": source,
            "prompt_id": prompt.prompt_id,
            "text": item.text,
            "n_tokens": len(item.token_ids) or None,
            "finished": item.finished,
            "opened": item.opened,
            "stopped": None if stop is None else item.decided,
            "decided_early": None if stop is None else row in stop.early,
        }
        for row, ((source, prompt), item) in enumerate(zip(asked, generated, strict=True))
    ]


def _shares(
    proof: FiredProof, shared: Pass, model: LensModel, asked: Sequence[tuple[str, Prompt]], places: Sequence[int]
) -> list[ShareRow]:
    """Each source's shares; stops where an intervention did nothing, so that nothing of it is ever reported."""
    rows: list[ShareRow] = []
    if shared.intervention == BASELINE:
        return rows
    for source in dict.fromkeys(source for source, _ in asked):
        found = proof.shares([row for row, (other, _) in zip(places, asked, strict=True) if other == source])
        if not declared(shared.intervention).may_rest:
            require_fired(found, f"{shared.intervention} of {source} in {shared.language}", model)
        rows.append(
            {
                "intervention": shared.intervention,
                "source": source,
                "language": shared.language,
                "prompts": shared.prompts,
                "prompt_set": shared.prompt_set or asked[0][1].prompt_set,
                "share_before": found.before,
                "share_after": found.after,
            }
        )
    return rows


def _directions(shared: Pass, inputs: Inputs) -> dict[str, Direction | None]:
    """Directions of a pass that exist, by source; the baseline has none and is asked all the same."""
    if shared.intervention == BASELINE:
        return dict.fromkeys(shared.sources)
    found = {source: read_direction(inputs, source) for source in shared.sources}
    return {source: direction for source, direction in found.items() if direction is not None}


STEP = Step(
    name="completions",
    version=7,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("model",),
    also_uses=also_uses,
    reads=("prompts", "direction"),
    tables=(TABLE, SHARES),
    kind=kind,
    together=together,
)
