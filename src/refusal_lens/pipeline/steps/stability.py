"""Step `stability`: would other validation prompts have selected another site?

The `LEADERS` best survivors of a source's selection are ablated once more on its harmful validation prompts, this time
keeping the refusal score of every prompt; the bootstrap over prompts then repeats the choice. Candidates further behind,
and the KL and steering filters, are taken as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from refusal_lens.directions import refusal_scores
from refusal_lens.geometry import site_stability
from refusal_lens.interventions import Ablation
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Step, Tools
from refusal_lens.pipeline.steps.candidates import read_candidates
from refusal_lens.pipeline.steps.filtering import kept_prompts
from refusal_lens.pipeline.steps.selection import FILE as SELECTION
from refusal_lens.pipeline.steps.tokens import refusal_token_ids
from refusal_lens.types import JsonValue

LEADERS = 8
FILE = "stability.json"


@dataclass(frozen=True)
class Params:
    """The source."""

    source: str


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task for each source."""
    for source in planning.sources if planning.config.geometry.enabled else ():
        read = tuple(f"{step}/{source}" for step in ("filtering", "tokens", "candidates", "selection"))
        yield Ask(source, Params(source), (f"prompts/{source}.select", *read))


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:
    """Bootstrap one source's choice of site."""
    source = params.source
    chosen = inputs.json(f"selection/{source}", SELECTION)
    candidates, ids = read_candidates(inputs, source), refusal_token_ids(inputs, source)
    if chosen["selected"] is None or candidates is None or not ids:
        return [Document(FILE, {"source": source, "site": None})]
    sites = [(int(item["position"]), int(item["layer"])) for item in chosen["survivors"][:LEADERS]]
    prompts = kept_prompts(inputs, source, harm="harmful", split="val")
    scores = [
        refusal_scores(
            tools.model,
            prompts,
            ids,
            interventions=[Ablation(candidates.vector(*site))],
            batch_size=tools.batch_size,
        )
        for site in sites
    ]
    picked = site_stability(np.stack(scores), sites)
    picks: list[JsonValue] = [[list[JsonValue](site), share] for site, share in picked.picks]
    found: dict[str, JsonValue] = {
        "source": source,
        "site": list[JsonValue](picked.selected),
        "same_site": picked.share,
        "same_layer": picked.same_layer,
        "prompts": len(prompts),
        "leaders": len(sites),
        "picks": picks,
    }
    return [Document(FILE, found)]


STEP = Step(
    name="stability",
    version=2,
    params=Params,
    plan=plan,
    compute=compute,
    uses=("model",),
    reads=("prompts", "filtering", "tokens", "candidates", "selection"),
)
