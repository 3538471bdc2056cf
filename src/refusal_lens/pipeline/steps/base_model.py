"""Step `base`: cosines between languages in an unaligned base model, the null that a cosine must be read against.

A base model that refuses nothing reached cosines of 0.75 between languages; only what alignment adds to that can be about
refusal. The base answers the audited model's own chat template, because base models seldom have one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from typing_extensions import TypedDict

from refusal_lens.core.table import Table
from refusal_lens.errors import ModelError
from refusal_lens.geometry import cosine_matrix
from refusal_lens.model import in_float64, record
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Inputs, Output, Rows, Step, Tools
from refusal_lens.pipeline.steps.prompts import read_prompts
from refusal_lens.pipeline.steps.selection import site_of
from refusal_lens.types import HARMS


class BaseRow(TypedDict):
    """Cosine between two languages' directions in the base model at one layer."""

    layer: int
    language_a: str
    language_b: str
    cosine: float


TABLE = Table("base", BaseRow, final=False)


@dataclass(frozen=True)
class Params:
    """How many train prompts per class are read."""

    prompts: int


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task, where a base model is named."""
    options = planning.config.geometry
    if options.base is not None and options.enabled and planning.sources:
        prompts = tuple(f"prompts/{language}.select" for language in planning.languages)
        yield Ask("cosines", Params(options.prompts_per_class), (*prompts, *planning.ids("selection")))


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Extract the base model's directions at the selected position and compare the languages."""
    model = tools.base_model
    if model.n_layers != tools.model.n_layers:
        raise ModelError(
            f"--base {model.provenance.spec} has {model.n_layers} layers, the audited model {tools.model.n_layers}: "
            "not its base model"
        )
    position = site_of(inputs).position
    directions: dict[str, np.ndarray] = {}
    for part, task_id in inputs.of("prompts").items():
        means: list[np.ndarray] = []
        for harm in HARMS:
            texts = [item.text for item in read_prompts(inputs, task_id, harm=harm, split="train")][: params.prompts]
            total = np.zeros((model.n_layers, model.d_model))
            for _, seen in record(model, texts, positions=[position], batch_size=tools.batch_size):
                total += in_float64(seen[:, 0]).sum(0).cpu().numpy()
            if texts:
                means.append(total / len(texts))
        if len(means) == len(HARMS):
            directions[part.removesuffix(".select")] = means[0] - means[1]
    codes = list(directions)
    rows: list[BaseRow] = []
    for layer in range(model.n_layers) if codes else ():
        cosines = cosine_matrix(np.stack([directions[code][layer] for code in codes])).tolist()
        rows.extend(
            [
                {"layer": layer, "language_a": one, "language_b": two, "cosine": cosines[i][j]}
                for i, one in enumerate(codes)
                for j, two in enumerate(codes)
            ]
        )
    return [Rows(TABLE, rows)]


STEP = Step(
    name="base",
    version=1,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("model", "base model"),
    reads=("prompts", "selection"),
    tables=(TABLE,),
)
