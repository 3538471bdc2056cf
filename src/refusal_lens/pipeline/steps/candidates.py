"""Step `candidates`: mean differences harmful - harmless at every post-instruction position and layer, one language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refusal_lens.directions import Candidates, extract
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Saved, Step, Tools
from refusal_lens.pipeline.steps.filtering import kept_prompts
from refusal_lens.types import HARMS

FILE = "candidates.json"


@dataclass(frozen=True)
class Params:
    """The language."""

    language: str


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each language whose candidates are extracted."""
    for language in planning.extracted:
        yield Ask(language, Params(language), (f"prompts/{language}.select", f"filtering/{language}"))


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """The language's candidates, or why there are none."""
    harmful, harmless = (kept_prompts(inputs, params.language, harm=harm, split="train") for harm in HARMS)
    if not harmful or not harmless:
        return [Document("empty.json", {"reason": f"no train prompts of both classes in {params.language}"})]
    return [Saved(extract(tools.model, harmful, harmless, batch_size=tools.batch_size).save)]


def read_candidates(inputs: Inputs, language: str) -> Candidates | None:
    """A language's candidates; None where it had no prompts to extract them from."""
    task_id = f"candidates/{language}"
    return Candidates.load(inputs.file(task_id, FILE).parent) if inputs.has(task_id, FILE) else None


STEP = Step(
    name="candidates",
    version=2,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("model",),
    reads=("prompts", "filtering"),
)
