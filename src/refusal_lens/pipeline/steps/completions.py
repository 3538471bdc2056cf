"""Step `completions`: what the model answers in one pass.

A pass asks the same prompts under one intervention from one or several directions, each row with its own. Answers under a
direction that does not exist are not generated: they are absent. Completion text is written only here, in the run
directory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import TypedDict

from refusal_lens.core.digests import digest_bytes
from refusal_lens.core.interventions import declared
from refusal_lens.core.names import BASELINE
from refusal_lens.core.progress import tell
from refusal_lens.core.table import Table
from refusal_lens.directions import Direction
from refusal_lens.engines import VllmEngine, serving
from refusal_lens.interventions import FiredProof, make, require_fired
from refusal_lens.judging import Answer, Judge
from refusal_lens.model import Generated, Intervention, LensModel, generate
from refusal_lens.pipeline.cells import CellName, Pass, passes
from refusal_lens.pipeline.dataset import test_part
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tool, Tools
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
FULL_SHARE = 0.05
"""Prompts whose answers are written to their end although a rule may stop answers: what shows whether it may."""
MEASURED = 2
"""Prompts of a shard on which it is proved that the intervention acted."""


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


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Generate the shard's answers under each direction of the pass."""
    shared = params.cells
    (part,) = inputs.of("prompts").values()
    prompts = read_prompts(inputs, part, harm=shared.prompts)[params.first : params.first + params.size]
    directions = _directions(shared, inputs)
    asked = [(source, prompt) for source in directions for prompt in prompts]
    if not asked:
        return [Rows(TABLE, []), Rows(SHARES, [])]
    texts = [prompt.text for _, prompt in asked]
    if tools.served is not None:  # which does not say how many tokens an answer has
        said = tools.served.answers(texts, max_new_tokens=params.max_new_tokens)
        elsewhere = [Generated(answer.text, (), answer.finished) for answer in said]
        return [Rows(TABLE, _rows(asked, elsewhere, None)), Rows(SHARES, [])]
    applied = [direction for direction in directions.values() if direction is not None]
    interventions = make(shared.intervention, params.options, applied, repeats=len(prompts)) if applied else []
    proof = FiredProof(interventions, [row for row in range(len(asked)) if row % len(prompts) < MEASURED])
    stop = None
    if params.stop_when_decided:
        full = {row for row, (source, prompt) in enumerate(asked) if in_sample(source, prompt.prompt_id)}
        asking = [prompt for _, prompt in asked]
        stop = Stopping(tools.judge, shared.language, asking, tools.model.opens_thoughts(texts), full)
    server = serving(tools.model, tools.engine)
    alone = [make(shared.intervention, params.options, [direction], repeats=len(prompts)) for direction in applied] or [
        []
    ]
    if server is not None and all(server.takes(changes) for changes in alone):
        generated = _by_engine(server, params.max_new_tokens, texts, alone, proof, stop)
    else:
        generated = generate(
            tools.model,
            texts,
            max_new_tokens=params.max_new_tokens,
            batch_size=tools.batch_size,
            engine=tools.engine,
            interventions=interventions,
            watch=proof.watch if interventions else None,
            stop_when=stop,
        )
        if interventions:
            proof.measure_before(tools.model, texts)
    rows = _rows(asked, generated, stop)
    if shared.intervention == BASELINE:
        return [Rows(TABLE, rows), Rows(SHARES, [])]
    return [Rows(TABLE, rows), Rows(SHARES, _shares(proof, shared, tools.model, asked))]


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


def _by_engine(
    server: VllmEngine,
    limit: int,
    texts: Sequence[str],
    alone: Sequence[Sequence[Intervention]],
    proof: FiredProof,
    stop: Callable[[int, str], bool] | None,
) -> list[Generated]:
    """Answers by an engine that holds one direction at a time: one block of rows after the other, each with its proof."""
    size = len(texts) // len(alone)
    generated: list[Generated] = []
    for place, changes in enumerate(alone):
        first = place * size
        generated += server.generate(
            texts[first : first + size],
            max_new_tokens=limit,
            interventions=changes,
            stop_when=None if stop is None else _moved(stop, first),
            progress=lambda done, total: tell(done, total, "answers"),
        )
        rows = [row for row in proof.rows if changes and first <= row < first + size]

        def note(places: Sequence[int], layer: int, read: Tensor, rows: Sequence[int] = rows) -> None:
            proof.watch([rows[place] for place in places], layer, read)

        server.show([texts[row] for row in rows], changes, note)
    if alone[0]:
        server.show([texts[row] for row in proof.rows], [], proof.watch_before)
    return generated


def _moved(stop: Callable[[int, str], bool], first: int) -> Callable[[int, str], bool]:
    """The rule for a block of rows that begins at `first`."""
    return lambda row, text: stop(first + row, text)


def _shares(proof: FiredProof, shared: Pass, model: LensModel, asked: Sequence[tuple[str, Prompt]]) -> list[ShareRow]:
    """Each source's shares; stops where an intervention did nothing, so that nothing of it is ever reported."""
    rows: list[ShareRow] = []
    for source in dict.fromkeys(source for source, _ in asked):
        found = proof.shares([row for row, (other, _) in enumerate(asked) if other == source])
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


def in_sample(source: str, prompt_id: str) -> bool:
    """Whether an answer is written in full whatever the stopping rule says: one in twenty, the same in every run."""
    return int(digest_bytes(f"{source}\0{prompt_id}".encode())[:8], 16) < FULL_SHARE * 2**32


class Stopping:
    """A stopping rule for generate: the judge is certain that what is written so far refuses.

    Inside thoughts there is no answer yet, and nothing is decided.
    """

    def __init__(
        self, judge: Judge, language: str, prompts: Sequence[Prompt], opened: Sequence[bool], full: Collection[int]
    ) -> None:
        """Rule for some rows, of which those in `full` are never stopped; `early` gathers those it would have."""
        self._judge, self._language, self._prompts, self._opened, self._full = judge, language, prompts, opened, full
        self.early: set[int] = set()

    def __call__(self, row: int, text: str) -> bool:
        """Whether a row's answer may end here."""
        if row in self.early:
            return False
        answer = Answer(
            text=text,
            language=self._language,
            prompt=self._prompts[row].for_judge,  # as in the step `verdicts`: one judge, one question
            finished=False,
            opened=self._opened[row],
        )
        verdict = self._judge.judge([answer])[0]
        decided = verdict.label == "refused" and not verdict.uncertain
        if decided and row in self._full:
            self.early.add(row)
            return False
        return decided


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
)
