"""Step `direction` for what is not one language: pooled, leave-one-language-out, random and shuffled directions.

    pooled            mean of the sources' unit candidates at the site most sources selected, with their mean length
    pooled-without-X  the same without language X: the sharpest question one can ask of X
    shuffled          a source's train prompts with balanced shuffled labels: half of each class on either side
    random-i          Gaussian, with a real direction's length and site

Balance is what makes the shuffle a null: an unbalanced one leaves a little of the largest axis, and ablation ignores the
length. A pool needs at least two sources with a valid direction.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import cast

import torch

from refusal_lens.directions import Direction, shuffled_direction
from refusal_lens.pipeline.steps import selection
from refusal_lens.pipeline.steps.extraction import kept_prompts
from refusal_lens.pipeline.workshop import Job
from refusal_lens.types import HARMS, JsonValue


def direction(job: Job) -> None:
    """A source's own direction, or one made from several sources or from none."""
    if "pool" in job.task.params:
        _write(job, _pooled(job), "fewer than two of its sources have a valid direction")
    elif "shuffled" in job.task.params:
        _write(job, _shuffled(job), "no source has a valid direction whose site and norm it could take")
    else:
        selection.direction(job)


def _pooled(job: Job) -> Direction | None:
    names = [str(name) for name in cast("list[JsonValue]", job.task.params["pool"])]
    chosen = {name: found for name in names if (found := selection.read_direction(job, name)) is not None}
    if len(chosen) < 2:
        return None
    sites = Counter((item.position, item.layer) for item in chosen.values())
    (position, layer), _ = sites.most_common(1)[0]
    vectors: list[torch.Tensor] = []
    digest: str | None = None
    for name in chosen:
        candidates = selection.read_candidates(job, name)
        assert candidates is not None, f"{name} has a direction and therefore candidates"
        vectors.append(candidates.vector(position, layer).double())
        digest = candidates.model_digest
    lengths = torch.stack([vector.norm() for vector in vectors])
    units = [vector / length for vector, length in zip(vectors, lengths, strict=True) if length > 0]
    if len(units) < 2:
        return None
    mean = torch.stack(units).mean(0)
    scaled = mean / mean.norm() * lengths.mean()
    return Direction(scaled.float(), position, layer, job.task.name, digest)


def _shuffled(job: Job) -> Direction | None:
    for task_id in job.inputs_of("direction"):
        like = selection.read_direction(job, task_id.removeprefix("direction/"))
        if like is not None:
            classes = {harm: kept_prompts(job, like.source, harm=harm, split="train") for harm in HARMS}
            if min(len(prompts) for prompts in classes.values()) < 2:
                return None
            made = shuffled_direction(
                job.shop.model,
                like,
                classes["harmful"],
                classes["harmless"],
                seed=int(cast("int", job.task.params["seed"])),
                batch_size=job.shop.config.transport.batch_size,
            )
            return replace(made, source=job.task.name)
    return None


def _write(job: Job, found: Direction | None, otherwise: str) -> None:
    status: dict[str, JsonValue] = {"status": selection.NO_VALID_DIRECTION, "reason": otherwise}
    if found is not None:
        found.save(job.folder / selection.DIRECTION_FILE)
        status = {"status": selection.SELECTED, "reason": None, "position": found.position, "layer": found.layer}
        status["norm"] = float(found.vector.norm())
    (job.folder / "status.json").write_text(json.dumps(status, ensure_ascii=False, indent=1), encoding="utf-8")
