"""Step `stability`: would other validation prompts have selected another site?

The `LEADERS` best survivors of a source's selection are ablated once more on its harmful validation prompts, this time
keeping the refusal score of every prompt; the bootstrap over prompts then repeats the choice. Candidates further behind,
and the KL and steering filters, are taken as they were.
"""

from __future__ import annotations

import json

import numpy as np

from refusal_lens.directions import refusal_scores
from refusal_lens.geometry import site_stability
from refusal_lens.interventions import Ablation
from refusal_lens.pipeline.steps.extraction import kept_prompts, refusal_token_ids
from refusal_lens.pipeline.steps.selection import read_candidates
from refusal_lens.pipeline.workshop import Job
from refusal_lens.types import JsonValue

LEADERS = 8
FILE = "stability.json"


def stability(job: Job) -> None:
    """Bootstrap one source's choice of site."""
    source = job.task.name
    chosen = json.loads(job.input(f"selection/{source}", "selection.json").read_text(encoding="utf-8"))
    candidates = read_candidates(job, source)
    ids = refusal_token_ids(job, source)
    found: dict[str, JsonValue] = {"source": source, "site": None}
    if chosen["selected"] is not None and candidates is not None and ids:
        sites = [(int(item["position"]), int(item["layer"])) for item in chosen["survivors"][:LEADERS]]
        prompts = kept_prompts(job, source, harm="harmful", split="val")
        scores = np.stack(
            [
                refusal_scores(
                    job.shop.model,
                    prompts,
                    ids,
                    interventions=[Ablation(candidates.vector(*site))],
                    batch_size=job.shop.config.transport.batch_size,
                )
                for site in sites
            ]
        )
        picked = site_stability(scores, sites)
        found = {
            "source": source,
            "site": list(picked.selected),
            "same_site": picked.share,
            "same_layer": picked.same_layer,
            "prompts": len(prompts),
            "leaders": len(sites),
            "picks": [[list(site), share] for site, share in picked.picks],
        }
    (job.folder / FILE).write_text(json.dumps(found, indent=1), encoding="utf-8")
