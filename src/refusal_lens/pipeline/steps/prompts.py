"""Step `prompts`: copy the prompts of one part into the run, so that later steps and readers need no other source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from typing_extensions import TypedDict

from refusal_lens.core.table import Table
from refusal_lens.errors import DataError
from refusal_lens.pipeline.dataset import digest_of
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tools
from refusal_lens.types import Harm, Prompt, Split


class PromptRow(TypedDict):
    """One prompt, as `Prompt` describes it."""

    prompt_id: str
    language: str
    harm: str
    split: str
    text: str
    prompt_set: str | None
    english: str | None
    topic: str | None
    category: str | None


TABLE = Table("prompts", PromptRow, final=False)


@dataclass(frozen=True)
class Params:
    """Which part, and the digest its prompts must have."""

    part: str
    digest: str


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each part: a language's selection prompts, or its test prompts of one set."""
    for part in sorted(planning.dataset.parts):
        yield Ask(part, Params(part, planning.dataset.digest(part)))


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:  # noqa: ARG001
    """The part's prompts; their digest must be the planned one."""
    part = tools.prompts(params.part)
    if digest_of(part) != params.digest:
        raise DataError(f"the prompts of {params.part} changed while the run was planned: start it again")
    return [Rows(TABLE, [cast("PromptRow", asdict(prompt)) for prompt in part])]


def read_prompts(inputs: Inputs, task_id: str, *, harm: Harm | None = None, split: Split | None = None) -> list[Prompt]:
    """The prompts of a part, in order, where wanted of one class or split alone."""
    return [
        Prompt(**row)  # pyright: ignore[reportArgumentType]  its literals were written from a Prompt
        for row in inputs.rows(TABLE, task_id)
        if (harm is None or row["harm"] == harm) and (split is None or row["split"] == split)
    ]


STEP = Step(name="prompts", version=1, params=Params, plan=plan, compute=compute, uses=("prompts",), tables=(TABLE,))
