"""Steps `tokens`, `filtering`, `candidates`: from a language's train and validation prompts to its candidate directions.

The model's own refusal score filters the prompts (harmful kept above 0, harmless below 0), as in the paper. Where fewer
than `MINIMUM` of a class survive in either split, the language's prompts are used unfiltered and the table says so: a
language that refuses nothing still has a difference in means, and the report must show it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from refusal_lens.directions import discover_refusal_tokens, extract, refusal_scores
from refusal_lens.pipeline.steps.intake import FILE, read_prompts
from refusal_lens.pipeline.tabular import FLAG, REAL, TEXT, Row, read_rows, schema, write_table
from refusal_lens.pipeline.workshop import Job
from refusal_lens.types import HARMS, Harm, Prompt, Split

ANSWERED = 32
"""Train prompts per class that are answered to find refusal tokens."""
MINIMUM = {"train": 16, "val": 8}
KEPT = schema(prompt_id=TEXT, harm=TEXT, split=TEXT, score=REAL, kept=FLAG, filtered=FLAG)


def tokens(job: Job) -> None:
    """Discover the language's refusal tokens from the model's own answers."""
    language = job.task.name
    part = job.input(f"prompts/{language}.select", FILE)
    harmful, harmless = (read_prompts(part, harm=harm, split="train") for harm in HARMS)
    found = discover_refusal_tokens(
        job.shop.model,
        harmful,
        harmless,
        language=language,
        judge=job.shop.judge,
        prompts_per_class=ANSWERED,
        batch_size=job.shop.config.transport.batch_size,
    )
    (job.folder / "tokens.json").write_text(json.dumps(asdict(found), ensure_ascii=False, indent=1), encoding="utf-8")


def filtering(job: Job) -> None:
    """Score every prompt with the model and keep what behaves as its class says."""
    language = job.task.name
    prompts = read_prompts(job.input(f"prompts/{language}.select", FILE))
    ids = refusal_token_ids(job, language)
    values: list[float] = []
    if ids and prompts:
        values = refusal_scores(job.shop.model, prompts, ids, batch_size=job.shop.config.transport.batch_size).tolist()
    wanted = bool(job.task.params["filter"]) and bool(values)
    scored = list(zip(prompts, values or [math.nan] * len(prompts), strict=True))
    passing = [(score > 0) if prompt.harm == "harmful" else (score < 0) for prompt, score in scored]
    filtered = wanted and all(
        sum(
            keep
            for (prompt, _), keep in zip(scored, passing, strict=True)
            if prompt.harm == harm and prompt.split == split
        )
        >= minimum
        for split, minimum in MINIMUM.items()
        for harm in HARMS
    )
    rows: list[Row] = [
        {
            "prompt_id": prompt.prompt_id,
            "harm": prompt.harm,
            "split": prompt.split,
            "score": score,
            "kept": keep or not filtered,
            "filtered": filtered,
        }
        for (prompt, score), keep in zip(scored, passing, strict=True)
    ]
    write_table(job.folder, "kept", rows, KEPT)


def candidates(job: Job) -> None:
    """Mean differences at every post-instruction position and layer."""
    harmful, harmless = (kept_prompts(job, job.task.name, harm=harm, split="train") for harm in HARMS)
    if not harmful or not harmless:
        (job.folder / "empty.json").write_text(
            json.dumps({"reason": f"no train prompts of both classes in {job.task.name}"}), encoding="utf-8"
        )
        return
    extract(job.shop.model, harmful, harmless, batch_size=job.shop.config.transport.batch_size).save(job.folder)


def refusal_token_ids(job: Job, language: str) -> list[int]:
    """Refusal token ids that the `tokens` step found for a language; empty when the model refuses nothing there."""
    found = json.loads(job.input(f"tokens/{language}", "tokens.json").read_text(encoding="utf-8"))
    return [int(token) for token in found["ids"]]


def kept_prompts(job: Job, language: str, *, harm: Harm, split: Split) -> list[Prompt]:
    """A language's selection prompts that the filter kept.

    Args:
        job: The job that reads them; its inputs hold the language's `prompts` and `filtering`.
        language: The language.
        harm: Class.
        split: `train` or `val`.

    Returns:
        Prompts in the order they were drawn.
    """
    kept = {
        row["prompt_id"]
        for row in read_rows(job.input(f"filtering/{language}", "kept.parquet"))
        if row["kept"] and row["harm"] == harm and row["split"] == split
    }
    found = read_prompts(job.input(f"prompts/{language}.select", FILE), harm=harm, split=split)
    return [prompt for prompt in found if prompt.prompt_id in kept]
