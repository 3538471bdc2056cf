"""Step `activations`: the residual stream of some train and test prompts of one language, all layers, three positions.

Positions: the selected site's, the template's last token (where refusal is read) and the instruction's last token (where
harmfulness is read, arXiv 2507.11878). Streamed batch by batch, stored in the model's own number format, one safetensors
file per language: tensors `train.harmful`, `train.harmless`, `test.harmful`, `test.harmless` [prompt, pos, layer, d_model].
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from refusal_lens.model import LensModel, record
from refusal_lens.pipeline.steps.intake import FILE, read_prompts
from refusal_lens.pipeline.steps.selection import SELECTED
from refusal_lens.pipeline.workshop import Job
from refusal_lens.types import HARMS, Harm, JsonValue, Prompt, Split

Part: TypeAlias = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")
TENSORS = "activations.safetensors"
FACTS = "activations.json"


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


def site_of(job: Job) -> Site:
    """The site from the selections among a job's inputs."""
    fallback: Site | None = None
    for task_id in job.inputs_of("selection"):
        source = task_id.removeprefix("selection/")
        chosen = json.loads(job.input(task_id, "selection.json").read_text(encoding="utf-8"))
        best = chosen["selected"] or chosen["best_discarded"]
        if best is None:
            continue
        valid = chosen["status"] == SELECTED
        found = Site(int(best["position"]), int(best["layer"]), source, valid)
        if valid:
            return found
        fallback = fallback or found
    return fallback or Site(-1, None, None, valid=False)


def activations(job: Job) -> None:
    """Record one language."""
    model = job.shop.model
    positions = list(dict.fromkeys((site_of(job).position, -1, min(model.positions) - 1)))
    count = cast("int", job.task.params["prompts"])
    tensors: dict[str, Tensor] = {}
    ids: dict[str, JsonValue] = {}
    stand_in: list[JsonValue] = []
    for part in PARTS:
        for harm in HARMS:
            prompts = _prompts(job, part, harm)
            if part == "test" and not prompts:
                prompts = _prompts(job, "val", harm)
                stand_in.append(harm)
            if prompts:
                name = f"{part}.{harm}"
                tensors[name] = record_all(model, prompts[:count], positions, job)
                ids[name] = [prompt.prompt_id for prompt in prompts[:count]]
    save_file(tensors, job.folder / TENSORS)
    facts: dict[str, JsonValue] = {"positions": list[JsonValue](positions), "ids": ids, "stand_in": stand_in}
    facts |= {"n_layers": model.n_layers, "dtype": str(model.dtype).removeprefix("torch.")}
    facts["instruction_end"] = min(model.positions) - 1
    (job.folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def record_all(
    model: LensModel, prompts: list[Prompt], positions: list[int], job: Job
) -> Float[Tensor, "prompt pos layer d_model"]:
    """Activations of all prompts, in order, in the model's number format on the CPU."""
    made = torch.empty(len(prompts), len(positions), model.n_layers, model.d_model, dtype=model.dtype)
    texts = [prompt.text for prompt in prompts]
    for rows, seen in record(model, texts, positions=positions, batch_size=job.shop.config.transport.batch_size):
        made[rows] = seen.to("cpu", model.dtype)
    return made


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
    def load(cls, job: Job, task_id: str) -> Recorded:
        """Read what an `activations` task wrote, without the tensors."""
        path = job.input(task_id, FACTS)
        facts = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            folder=job.input(task_id, TENSORS).parent,
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


def _prompts(job: Job, part: Split, harm: Harm) -> list[Prompt]:
    wanted = f"prompts/{job.task.name}.{'test' if part == 'test' else 'select'}"
    if wanted not in job.task.inputs:
        return []
    return read_prompts(job.input(wanted, FILE), harm=harm, split=None if part == "test" else part)
