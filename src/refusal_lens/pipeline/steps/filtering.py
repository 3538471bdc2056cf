"""Step `filtering`: which selection prompts behave as their class says.

The model's own refusal score decides (harmful kept above 0, harmless below 0), as in the paper. Where too few of a class
survive in either split (`directions.behaving`), the language's prompts are used unfiltered and the table says so: a
language that refuses nothing still has a difference in means, and the report must show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict

from refusal_lens.core.table import Table
from refusal_lens.directions import behaving, refusal_scores
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tools
from refusal_lens.pipeline.steps.prompts import read_prompts
from refusal_lens.pipeline.steps.tokens import refusal_token_ids
from refusal_lens.types import Harm, Prompt, Split


class KeptRow(TypedDict):
    """One selection prompt: its refusal score (NaN where not measured), whether it is used, whether the filter acted."""

    prompt_id: str
    harm: str
    split: str
    score: float
    kept: bool
    filtered: bool


TABLE = Table("kept", KeptRow, final=False)


@dataclass(frozen=True)
class Params:
    """The language, and whether to filter."""

    language: str
    filter: bool


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each language whose candidates are extracted."""
    for language in planning.extracted:
        inputs = (f"prompts/{language}.select", f"tokens/{language}")
        yield Ask(language, Params(language, planning.config.directions.filter), inputs)


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Score every prompt with the model and keep what behaves as its class says."""
    prompts = read_prompts(inputs, f"prompts/{params.language}.select")
    ids = refusal_token_ids(inputs, params.language)
    values: list[float] = []
    if ids and prompts:
        values = refusal_scores(tools.model, prompts, ids, batch_size=tools.batch_size).tolist()
    keep = None
    if params.filter and values:
        keep = behaving([(prompt.harm, prompt.split) for prompt in prompts], values)
    rows: list[KeptRow] = [
        {
            "prompt_id": prompt.prompt_id,
            "harm": prompt.harm,
            "split": prompt.split,
            "score": score,
            "kept": kept,
            "filtered": keep is not None,
        }
        for prompt, score, kept in zip(
            prompts, values or [math.nan] * len(prompts), keep or [True] * len(prompts), strict=True
        )
    ]
    return [Rows(TABLE, rows)]


def kept_prompts(inputs: Inputs, language: str, *, harm: Harm, split: Split) -> list[Prompt]:
    """A language's selection prompts that are used, of one class and split, in the order they were drawn."""
    kept = {
        row["prompt_id"]
        for row in inputs.rows(TABLE, f"filtering/{language}")
        if row["kept"] and row["harm"] == harm and row["split"] == split
    }
    found = read_prompts(inputs, f"prompts/{language}.select", harm=harm, split=split)
    return [prompt for prompt in found if prompt.prompt_id in kept]


STEP = Step(
    name="filtering",
    version=1,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("model",),
    reads=("prompts", "tokens"),
    tables=(TABLE,),
)
