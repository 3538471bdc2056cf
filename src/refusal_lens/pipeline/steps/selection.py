"""Step `selection`: pick a source's direction by the rule, with a reason for every discarded candidate.

A source without a valid direction keeps its place in the run: its `direction` says so, every cell that would use it
stays empty, and the report names the best candidate it would have had.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from refusal_lens.directions import CandidateScore, select
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Step, Tools
from refusal_lens.pipeline.steps.scores import FILE as SCORES
from refusal_lens.types import JsonValue, Rule

FILE = "selection.json"
SELECTED = "selected"
NO_VALID_DIRECTION = "no valid direction"


@dataclass(frozen=True)
class Params:
    """The source and the rule."""

    source: str
    rule: Rule
    kl_threshold: float | None


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each source."""
    choice = planning.config.directions
    for source in planning.sources:
        yield Ask(source, Params(source, choice.rule, choice.kl_threshold), (f"scores/{source}",))


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:  # noqa: ARG001
    """The choice and the fate of every candidate."""
    measured = inputs.json(f"scores/{params.source}", SCORES)
    result: dict[str, JsonValue] = {
        "rule": params.rule,
        "reason": measured["reason"],
        "selected": None,
        "best_discarded": None,
        "discarded": [],
    }
    if measured["reason"] is None:
        chosen = select(
            [CandidateScore(**item) for item in measured["scores"]],
            n_layers=measured["n_layers"],
            rule=params.rule,
            kl_threshold=params.kl_threshold,
        )
        result = json.loads(json.dumps(asdict(chosen)))
        if chosen.selected is None:
            result["reason"] = chosen.reason
    result["status"] = SELECTED if result["selected"] is not None else NO_VALID_DIRECTION
    return [Document(FILE, result)]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run looks: the selected site of its first valid source, or the best it would have had.

    Attributes:
        position: Negative offset from the prompt's end.
        layer: Layer; None where no source had any scored candidate.
        source: Whose site it is; None where there is none.
        valid: Whether that source has a valid direction.
    """

    position: int
    layer: int | None
    source: str | None
    valid: bool


def site_of(inputs: Inputs) -> Site:
    """The site from the selections among a task's inputs."""
    fallback: Site | None = None
    for source, task_id in inputs.of("selection").items():
        chosen = inputs.json(task_id, FILE)
        best = chosen["selected"] or chosen["best_discarded"]
        if best is None:
            continue
        valid = chosen["status"] == SELECTED
        found = Site(int(best["position"]), int(best["layer"]), source, valid)
        if valid:
            return found
        fallback = fallback or found
    return fallback or Site(-1, None, None, valid=False)


def valid_sources(inputs: Inputs) -> tuple[str, ...]:
    """Sources with a valid direction, from the selections among a task's inputs."""
    chosen = {source: inputs.json(task_id, FILE) for source, task_id in inputs.of("selection").items()}
    return tuple(source for source, item in chosen.items() if item["status"] == SELECTED)


STEP = Step(name="selection", version=1, params=Params, plan=plan, compute=compute, reads=("scores",))
