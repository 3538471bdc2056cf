"""Steps `scores`, `selection`, `direction`: score candidates, pick one by the rule, or say why none is valid.

A source without a valid direction keeps its place in the run: its `direction` says so, every cell that would use it
stays empty, and the report names the best candidate it would have had.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

from refusal_lens.directions import Candidates, CandidateScore, Direction, random_direction, score, select
from refusal_lens.pipeline.steps.extraction import kept_prompts, refusal_token_ids
from refusal_lens.pipeline.workshop import Job
from refusal_lens.types import HARMS, JsonValue, Rule

SELECTED = "selected"
NO_VALID_DIRECTION = "no valid direction"
DIRECTION_FILE = "direction.safetensors"


def scores(job: Job) -> None:
    """Score every candidate of the source on its validation prompts."""
    source = job.task.name
    ids = refusal_token_ids(job, source)
    harmful, harmless = (kept_prompts(job, source, harm=harm, split="val") for harm in HARMS)
    found = read_candidates(job, source)
    reason = None
    if found is None or not harmful or not harmless:
        reason = f"{source} has no prompts of both classes to extract and score with"
    elif not ids:
        reason = f"no refusal tokens: the model refuses (almost) no harmful prompt in {source}"
    measured: list[CandidateScore] = []
    if found is not None and reason is None:
        measured = score(
            job.shop.model,
            found,
            harmful,
            harmless,
            refusal_tokens=ids,
            mode=job.shop.config.directions.mode,
            prune=not job.shop.config.directions.full_sweep,
            rule=job.shop.config.directions.rule,
            kl_threshold=job.shop.config.directions.kl_threshold,
            batch_size=job.shop.config.transport.batch_size,
        )
    content: dict[str, JsonValue] = {
        "reason": reason,
        "mode": str(job.task.params["mode"]),
        "n_layers": job.shop.model.n_layers,
        "scores": [asdict(item) for item in measured],
    }
    _write_json(job.folder / "scores.json", content)


def selection(job: Job) -> None:
    """Apply the rule; write the choice and the reason for every discarded candidate."""
    source = job.task.name
    measured = json.loads(job.input(f"scores/{source}", "scores.json").read_text(encoding="utf-8"))
    result: dict[str, JsonValue] = {
        "rule": job.task.params["rule"],
        "reason": measured["reason"],
        "selected": None,
        "best_discarded": None,
        "discarded": [],
    }
    if measured["reason"] is None:
        threshold = cast("float | None", job.task.params["kl_threshold"])
        chosen = select(
            [CandidateScore(**item) for item in measured["scores"]],
            n_layers=measured["n_layers"],
            rule=cast("Rule", job.task.params["rule"]),
            kl_threshold=threshold,
        )
        result = json.loads(json.dumps(asdict(chosen)))
        if chosen.selected is None:
            result["reason"] = chosen.reason
    result["status"] = SELECTED if result["selected"] is not None else NO_VALID_DIRECTION
    _write_json(job.folder / "selection.json", result)


def direction(job: Job) -> None:
    """The selected candidate as a direction, or a random one of the same norm, position and layer."""
    if "index" in job.task.params:
        _random(job)
        return
    source = job.task.name
    chosen = json.loads(job.input(f"selection/{source}", "selection.json").read_text(encoding="utf-8"))
    status: dict[str, JsonValue] = {"status": chosen["status"], "reason": chosen["reason"]}
    found = read_candidates(job, source)
    if chosen["selected"] is not None and found is not None:
        picked = found.direction(
            position=chosen["selected"]["position"], layer=chosen["selected"]["layer"], source=source
        )
        picked.save(job.folder / DIRECTION_FILE)
        status |= {"position": picked.position, "layer": picked.layer, "norm": float(picked.vector.norm())}
    _write_json(job.folder / "status.json", status)


def read_direction(job: Job, name: str) -> Direction | None:
    """A direction among the job's inputs; None when its source has no valid one."""
    status = json.loads(job.input(f"direction/{name}", "status.json").read_text(encoding="utf-8"))
    return Direction.load(job.input(f"direction/{name}", DIRECTION_FILE)) if status["status"] == SELECTED else None


def read_candidates(job: Job, language: str) -> Candidates | None:
    """A language's candidates among the job's inputs; None when it had no prompts to extract them from."""
    record = job.shop.run.record(f"candidates/{language}")
    if record is None or "candidates.json" not in record.outputs:
        return None
    return Candidates.load(job.input(f"candidates/{language}", "candidates.json").parent)


def _random(job: Job) -> None:
    for task_id in job.inputs_of("direction"):
        like = read_direction(job, task_id.removeprefix("direction/"))
        if like is not None:
            seed = int(cast("int", job.task.params["seed"])) * 1_000 + int(cast("int", job.task.params["index"]))
            drawn = random_direction(like, seed)
            drawn.save(job.folder / DIRECTION_FILE)
            _write_json(
                job.folder / "status.json",
                {
                    "status": SELECTED,
                    "reason": None,
                    "position": drawn.position,
                    "layer": drawn.layer,
                    "norm": float(drawn.vector.norm()),
                    "like": like.source,
                },
            )
            return
    _write_json(
        job.folder / "status.json",
        {"status": NO_VALID_DIRECTION, "reason": "no source has a valid direction whose norm it could take"},
    )


def _write_json(path: Path, value: JsonValue) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
