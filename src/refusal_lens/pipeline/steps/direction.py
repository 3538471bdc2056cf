"""Step `direction`: the directions that an audit applies, real ones and nulls.

    own               the selected candidate of one source language
    pooled            mean of the sources' unit candidates at the site most sources selected, with their mean length
    pooled-without-X  the same without language X: the sharpest question one can ask of X
    shuffled          a source's train prompts with balanced shuffled labels: half of each class on either side
    random-i          Gaussian, with a real direction's length and site

Balance is what makes the shuffle a null: an unbalanced one leaves a little of the largest axis, and ablation ignores the
length. A pool needs at least two sources with a valid direction. Every direction carries the harmless means' projection on
itself, by layer, so that an affine ablation is one operation in all rows of a table: of a pool the mean over its members'
harmless means, of a null those of the source whose place it takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch

from refusal_lens.core.names import RANDOM, SHUFFLED
from refusal_lens.directions import Candidates, Direction, random_direction, shuffled_direction
from refusal_lens.pipeline.cells import pools
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Saved, Step, Tool, Tools
from refusal_lens.pipeline.steps.candidates import read_candidates
from refusal_lens.pipeline.steps.filtering import kept_prompts
from refusal_lens.pipeline.steps.selection import FILE as SELECTION
from refusal_lens.pipeline.steps.selection import NO_VALID_DIRECTION, SELECTED
from refusal_lens.types import HARMS, JsonValue

FILE = "direction.safetensors"
STATUS = "status.json"


@dataclass(frozen=True)
class Params:
    """What kind of direction, under which name, from which sources; nulls are drawn with a seed.

    Attributes:
        name: Its name in tables.
        kind: How it is made.
        sources: The source itself, the pool's members, or those whose site and length a null takes (the first valid one).
        seed: Of a null.
        index: Of a random null.
    """

    name: str
    kind: Literal["own", "pool", "random", "shuffled"]
    sources: tuple[str, ...]
    seed: int | None = None
    index: int | None = None


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """The sources' own directions, the pools, then the nulls."""
    sources, seed, choice = planning.sources, planning.config.seed, planning.config.directions
    if not sources:
        return
    for source in sources:
        yield Ask(source, Params(source, "own", (source,)), (f"selection/{source}", f"candidates/{source}"))
    for name, members in pools(planning.config).items():
        read = tuple(f"{step}/{source}" for source in members for step in ("direction", "candidates"))
        yield Ask(name, Params(name, "pool", members), read)
    real = tuple(f"{step}/{source}" for source in sources for step in ("direction", "candidates"))
    for index in range(choice.random):
        name = f"{RANDOM}{index}"
        yield Ask(name, Params(name, "random", sources, seed, index), real)
    if choice.shuffled:
        prompts = tuple(item for source in sources for item in (f"prompts/{source}.select", f"filtering/{source}"))
        yield Ask(SHUFFLED, Params(SHUFFLED, "shuffled", sources, seed), (*real, *prompts))


def also_uses(params: Params) -> Collection[Tool]:
    """Shuffled labels need new means, and these the model."""
    return ("model",) if params.kind == "shuffled" else ()


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """One direction with its status, or the status that says why there is none."""
    why_none: str
    if params.kind == "own":
        chosen = inputs.json(f"selection/{params.name}", SELECTION)
        found, why_none = _own(params, chosen["selected"], inputs), chosen["reason"]
    elif params.kind == "pool":
        found, why_none = _pooled(params, inputs), "fewer than two of its sources have a valid direction"
    elif params.kind == "random":
        found, why_none = _random(params, inputs), "no source has a valid direction whose norm it could take"
    else:
        found = _shuffled(params, inputs, tools)
        why_none = "no source has a valid direction whose site and norm it could take"
    if found is None:
        return [Document(STATUS, {"status": NO_VALID_DIRECTION, "reason": why_none})]
    status: dict[str, JsonValue] = {
        "status": SELECTED,
        "reason": None,
        "position": found.position,
        "layer": found.layer,
    }
    if params.kind == "random":
        status["like"] = _first_valid(params, inputs)
    return [Saved(_saving(found)), Document(STATUS, {**status, "norm": float(found.vector.norm())})]


def read_direction(inputs: Inputs, name: str) -> Direction | None:
    """A direction among a task's inputs; None where there is no valid one."""
    task_id = f"direction/{name}"
    if inputs.json(task_id, STATUS)["status"] != SELECTED:
        return None
    return Direction.load(inputs.file(task_id, FILE))


def why_none(inputs: Inputs) -> dict[str, str | None]:
    """By direction among a task's inputs, why it does not exist; None where it does."""
    found: dict[str, str | None] = {}
    for name, task_id in inputs.of("direction").items():
        status = inputs.json(task_id, STATUS)
        found[name] = None if status["status"] == SELECTED else str(status.get("reason") or status["status"])
    return found


def _own(params: Params, site: dict[str, int] | None, inputs: Inputs) -> Direction | None:
    candidates = read_candidates(inputs, params.name)
    if site is None or candidates is None:
        return None
    return candidates.direction(position=site["position"], layer=site["layer"], source=params.name)


def _pooled(params: Params, inputs: Inputs) -> Direction | None:
    chosen = {name: found for name in params.sources if (found := read_direction(inputs, name)) is not None}
    if len(chosen) < 2:
        return None
    sites = Counter((item.position, item.layer) for item in chosen.values())
    (position, layer), _ = sites.most_common(1)[0]
    vectors: list[torch.Tensor] = []
    members: list[Candidates] = []
    digest: str | None = None
    for name in chosen:
        candidates = read_candidates(inputs, name)
        assert candidates is not None, f"{name} has a direction and therefore candidates"
        vectors.append(candidates.vector(position, layer).double())
        members.append(candidates)
        digest = candidates.model_digest
    lengths = torch.stack([vector.norm() for vector in vectors])
    units = [vector / length for vector, length in zip(vectors, lengths, strict=True) if length > 0]
    if len(units) < 2:
        return None
    mean = torch.stack(units).mean(0)
    scaled = mean / mean.norm() * lengths.mean()
    known = [value for candidates in members if (value := candidates.references(mean, position=position)) is not None]
    references = tuple(fmean(values) for values in zip(*known, strict=True)) if len(known) == len(members) else None
    own = None if references is None else references[layer]
    return Direction(scaled.float(), position, layer, params.name, digest, own, references)


def _random(params: Params, inputs: Inputs) -> Direction | None:
    like = _first_valid(params, inputs)
    if like is None:
        return None
    assert params.seed is not None and params.index is not None
    pattern = read_direction(inputs, like)
    assert pattern is not None
    return _with_reference(random_direction(pattern, params.seed * 1_000 + params.index), like, inputs)


def _shuffled(params: Params, inputs: Inputs, tools: Tools) -> Direction | None:
    name = _first_valid(params, inputs)
    like = None if name is None else read_direction(inputs, name)
    if like is None:
        return None
    classes = {harm: kept_prompts(inputs, like.source, harm=harm, split="train") for harm in HARMS}
    if min(len(prompts) for prompts in classes.values()) < 2:
        return None
    assert params.seed is not None
    made = shuffled_direction(
        tools.model, like, classes["harmful"], classes["harmless"], seed=params.seed, batch_size=tools.batch_size
    )
    return _with_reference(replace(made, source=params.name), like.source, inputs)


def _with_reference(null: Direction, like: str, inputs: Inputs) -> Direction:
    """A null with the reference of the source whose place it takes: its harmless mean, projected on the null."""
    candidates = read_candidates(inputs, like)
    assert candidates is not None, f"{like} has a direction and therefore candidates"
    references = candidates.references(null.vector, position=null.position)
    own = None if references is None else references[null.layer]
    return replace(null, harmless_projection=own, harmless_projections=references)


def _first_valid(params: Params, inputs: Inputs) -> str | None:
    return next((name for name in params.sources if read_direction(inputs, name) is not None), None)


def _saving(direction: Direction):
    def save(folder: Path) -> None:
        direction.save(folder / FILE)

    return save


STEP = Step(
    name="direction",
    version=3,
    params=Params,
    plan=plan,
    compute=compute,
    also_uses=also_uses,
    reads=("selection", "candidates", "direction", "prompts", "filtering"),
)
