"""Step `checks`: what was measured of the model before its numbers are trusted, where no local process has loaded it.

A local audit measures before the run directory is made. Under Ray only the workers hold the model: one of them says what it
measured, and the run's header is completed from that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refusal_lens.interventions import check_model
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.provenance import header_of_checks, header_of_model
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Step, Tools

FILE = "checks.json"
TASK = "checks/model"


@dataclass(frozen=True)
class Params:
    """Nothing: the model says everything."""


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task, where workers of a cluster load the model and this process does not."""
    if planning.config.transport.executor == "ray":
        yield Ask("model", Params())


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:  # noqa: ARG001
    """Measure the worker's model."""
    return [Document(FILE, {**header_of_checks(check_model(tools.model)), **header_of_model(tools.model.provenance)})]


STEP = Step(name="checks", version=1, params=Params, plan=plan, compute=compute, uses=("model",))
