"""Step `activations`: the residual stream of some train and test prompts of one language, all layers, three positions.

Positions: the selected site's, the template's last token (where refusal is read) and the instruction's last token (where
harmfulness is read, arXiv 2507.11878). Streamed batch by batch, stored in the model's own number format, one safetensors
file per language: tensors `train.harmful`, `train.harmless`, `test.harmful`, `test.harmless` [prompt, pos, layer, d_model].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from refusal_lens.model import record
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Saved, Step, Tools
from refusal_lens.pipeline.steps.prompts import read_prompts
from refusal_lens.pipeline.steps.selection import site_of
from refusal_lens.types import HARMS, Harm, JsonValue, Prompt

Part: TypeAlias = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")
TENSORS = "activations.safetensors"
FACTS = "activations.json"


@dataclass(frozen=True)
class Params:
    """The language, and how many prompts per class and part are recorded."""

    language: str
    prompts: int


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each language."""
    options = planning.config.geometry
    for language in planning.languages if options.enabled and planning.sources else ():
        inputs = (*planning.parts(language), *planning.ids("selection"))
        yield Ask(language, Params(language, options.prompts_per_class), inputs)


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Record one language."""
    model = tools.model
    positions = list(dict.fromkeys((site_of(inputs).position, -1, min(model.positions) - 1)))
    tensors: dict[str, Tensor] = {}
    ids: dict[str, JsonValue] = {}
    stand_in: list[JsonValue] = []
    for part in PARTS:
        for harm in HARMS:
            prompts = _prompts(params.language, part, harm, inputs)
            if part == "test" and not prompts:
                prompts = _prompts(params.language, "val", harm, inputs)
                stand_in.append(harm)
            if prompts:
                name = f"{part}.{harm}"
                chosen = prompts[: params.prompts]
                tensors[name] = _record_all(tools, chosen, positions)
                ids[name] = [prompt.prompt_id for prompt in chosen]
    facts: dict[str, JsonValue] = {"positions": list[JsonValue](positions), "ids": ids, "stand_in": stand_in}
    facts |= {"n_layers": model.n_layers, "dtype": str(model.dtype).removeprefix("torch.")}
    facts["instruction_end"] = min(model.positions) - 1
    return [Saved(partial(_save, tensors)), Document(FACTS, facts)]


def _record_all(tools: Tools, prompts: list[Prompt], positions: list[int]) -> Float[Tensor, "prompt pos layer d_model"]:
    """Activations of all prompts, in order, in the model's number format on the CPU."""
    model = tools.model
    made = torch.empty(len(prompts), len(positions), model.n_layers, model.d_model, dtype=model.dtype)
    texts = [prompt.text for prompt in prompts]
    for rows, seen in record(model, texts, positions=positions, batch_size=tools.batch_size):
        made[rows] = seen.to("cpu", model.dtype)
    return made


def _save(tensors: dict[str, Tensor], folder: Path) -> None:
    save_file(tensors, folder / TENSORS)


def _prompts(language: str, part: Literal["train", "val", "test"], harm: Harm, inputs: Inputs) -> list[Prompt]:
    name = f"{language}.{'test' if part == 'test' else 'select'}"
    if name not in inputs.of("prompts"):
        return []
    return read_prompts(inputs, f"prompts/{name}", harm=harm, split=None if part == "test" else part)


@dataclass(frozen=True)
class Recorded:
    """A language's stored activations, read layer by layer.

    Attributes:
        folder: Folder of the task.
        positions: Stored positions.
        instruction_end: Position of the instruction's last token.
        ids: Prompt ids by "part.harm"; a class without prompts is absent.
        stand_in: Classes whose test prompts are missing and are stood in for by validation prompts.
        n_layers: Layers.
        dtype: Number format of the model.
    """

    folder: Path
    positions: tuple[int, ...]
    instruction_end: int
    ids: dict[str, list[str]]
    stand_in: tuple[str, ...]
    n_layers: int
    dtype: str

    @classmethod
    def load(cls, inputs: Inputs, task_id: str) -> Recorded:
        """Read what an `activations` task wrote, without the tensors."""
        facts = inputs.json(task_id, FACTS)
        return cls(
            folder=inputs.file(task_id, TENSORS).parent,
            positions=tuple(facts["positions"]),
            instruction_end=facts["instruction_end"],
            ids=facts["ids"],
            stand_in=tuple(facts["stand_in"]),
            n_layers=facts["n_layers"],
            dtype=facts["dtype"],
        )

    def has(self, part: Part) -> bool:
        """Whether both classes have prompts in this part."""
        return all(f"{part}.{harm}" in self.ids for harm in HARMS)

    def rows(
        self, part: Part, harm: Harm, *, position: int, layer: int, ids: list[str]
    ) -> Float[Tensor, "prompt d_model"]:
        """Activations of some prompts at one site, float32, in the order of the ids."""
        name = f"{part}.{harm}"
        where = {prompt_id: row for row, prompt_id in enumerate(self.ids[name])}
        with safe_open(self.folder / TENSORS, framework="pt") as file:
            found = file.get_slice(name)[:, self.positions.index(position), layer]
        return found[[where[prompt_id] for prompt_id in ids]].float()


STEP = Step(
    name="activations",
    version=1,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("model",),
    reads=("prompts", "selection"),
)
