"""Step `scores`: score every candidate of a source on its validation prompts, or say why that is not possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from refusal_lens.directions import CandidateScore, score
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Step, Tools
from refusal_lens.pipeline.steps.candidates import read_candidates
from refusal_lens.pipeline.steps.filtering import kept_prompts
from refusal_lens.pipeline.steps.tokens import refusal_token_ids, why_no_tokens
from refusal_lens.types import HARMS, Rule

FILE = "scores.json"


@dataclass(frozen=True)
class Params:
    """The source, how much of the sweep runs and on which layers, and the rule that decides what need not be scored."""

    source: str
    mode: Literal["exact", "full", "race"]
    layer_step: int
    rule: Rule
    kl_threshold: float | None


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each source."""
    choice = planning.config.directions
    mode = "race" if choice.mode == "race" else "full" if choice.full_sweep else "exact"
    for source in planning.sources:
        read = tuple(f"{step}/{source}" for step in ("filtering", "tokens", "candidates"))
        yield Ask(
            source,
            Params(source, mode, choice.layer_step, choice.rule, choice.kl_threshold),
            (f"prompts/{source}.select", *read),
        )


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Score the candidates."""
    source = params.source
    ids = refusal_token_ids(inputs, source)
    harmful, harmless = (kept_prompts(inputs, source, harm=harm, split="val") for harm in HARMS)
    found = read_candidates(inputs, source)
    reason = None
    if found is None or not harmful or not harmless:
        reason = f"{source} has no prompts of both classes to extract and score with"
    elif not ids:
        reason = why_no_tokens(inputs, source)
    measured: list[CandidateScore] = []
    if found is not None and reason is None:
        measured = score(
            tools.model,
            found,
            harmful,
            harmless,
            refusal_tokens=ids,
            mode="race" if params.mode == "race" else "exact",
            prune=params.mode != "full",
            rule=params.rule,
            kl_threshold=params.kl_threshold,
            layer_step=params.layer_step,
            batch_size=tools.batch_size,
        )
    content = {"reason": reason, "mode": params.mode, "n_layers": tools.model.n_layers}
    return [Document(FILE, {**content, "scores": [asdict(item) for item in measured]})]


STEP = Step(
    name="scores",
    version=4,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("model",),
    reads=("prompts", "filtering", "tokens", "candidates"),
)
