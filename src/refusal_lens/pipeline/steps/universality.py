"""Step `universality`: transfer matrix, content of complied answers, damage, and the verdict on the model.

Reads finished verdicts and never a model. Complied answers whose prompt names no topic are checked by overlap with
their prompt (`measure.on_topic_by_overlap`); that needs the texts, which are read here and not written anywhere.
"""

from __future__ import annotations

import json

from refusal_lens.measure import (
    content_rows,
    judge_model,
    on_topic_by_overlap,
    rate_rows,
    selectivity_rows,
    transfer_rows,
)
from refusal_lens.pipeline.steps.answers import in_order
from refusal_lens.pipeline.steps.damage import DAMAGE
from refusal_lens.pipeline.steps.intake import FILE, read_prompts
from refusal_lens.pipeline.steps.selection import SELECTED
from refusal_lens.pipeline.tabular import INTEGER, REAL, TEXT, Cell, read_rows, schema, write_table
from refusal_lens.pipeline.workshop import Job

TRANSFER = schema(
    source=TEXT,
    target=TEXT,
    intervention=TEXT,
    baseline_rate=REAL,
    rate=REAL,
    difference=REAL,
    low=REAL,
    high=REAL,
    p_value=REAL,
    p_holm=REAL,
    n=INTEGER,
    gained=INTEGER,
    lost=INTEGER,
    unpaired=INTEGER,
    mde=REAL,
    lost_unscored=INTEGER,
    null_difference=REAL,
)
CONTENT = schema(
    intervention=TEXT,
    source=TEXT,
    language=TEXT,
    prompts=TEXT,
    complied=INTEGER,
    on_topic=INTEGER,
    hollow=INTEGER,
    rate_on_topic=REAL,
    share_on_topic=REAL,
    low=REAL,
    high=REAL,
    prompt_set=TEXT,
)
SELECTIVITY = schema(
    intervention=TEXT,
    source=TEXT,
    language=TEXT,
    selectivity=REAL,
    low=REAL,
    high=REAL,
    harmful_refused=REAL,
    overrefusal=REAL,
    n_harmful=INTEGER,
    n_harmless=INTEGER,
    prompt_set=TEXT,
)

Verdicts = list[dict[str, Cell]]


def universality(job: Job) -> None:
    """Write `transfer`, `content`, `selectivity`, `damage` and `verdict.json`."""
    verdicts = in_order(_with_topics(job, task_id) for task_id in job.inputs_of("verdicts"))
    main = next((row["prompt_set"] for row in verdicts), None)
    own = [row for row in verdicts if row["prompt_set"] == main]
    seed = job.task.params["seed"]
    assert isinstance(seed, int)
    transfer = transfer_rows(own, seed=seed)
    rates, content = rate_rows(verdicts), content_rows(verdicts)
    write_table(job.folder, "transfer", transfer, TRANSFER, csv=True)
    write_table(job.folder, "content", content, CONTENT, csv=True)
    write_table(job.folder, "selectivity", selectivity_rows(rates), SELECTIVITY, csv=True)
    damage = [row for task_id in job.inputs_of("damage") for row in read_rows(job.input(task_id, "damage.parquet"))]
    write_table(job.folder, "damage", damage, DAMAGE, csv=True)
    main_content = [row for row in content if row["prompt_set"] == main]
    main_rates = [row for row in rates if row["prompt_set"] == main]
    verdict = judge_model(main_rates, transfer, sources=_sources(job), content=main_content)
    text = json.dumps(verdict.as_json(), ensure_ascii=False, indent=1, allow_nan=False)
    (job.folder / "verdict.json").write_text(text, encoding="utf-8")


def _sources(job: Job) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for task_id in job.inputs_of("direction"):
        status = json.loads(job.input(task_id, "status.json").read_text(encoding="utf-8"))
        valid = status["status"] == SELECTED
        found[task_id.removeprefix("direction/")] = None if valid else str(status.get("reason") or status["status"])
    return found


def _with_topics(job: Job, task_id: str) -> Verdicts:
    """One shard's verdicts; where no topic was checked, complied answers are compared with their prompts."""
    verdicts = read_rows(job.input(task_id, "verdicts.parquet"))
    unknown = [row for row in verdicts if row["label"] == "complied" and row["on_topic"] is None]
    if not unknown:
        return verdicts
    answers = job.input(f"completions/{task_id.partition('/')[2]}", "completions.parquet")
    texts = {(row["source"], row["prompt_id"]): str(row["text"]) for row in read_rows(answers)}
    prompts = _prompt_texts(job, str(unknown[0]["language"]))
    known = [row for row in unknown if row["prompt_id"] in prompts]
    flags = on_topic_by_overlap(
        [prompts[str(row["prompt_id"])] for row in known], [texts[row["source"], row["prompt_id"]] for row in known]
    )
    if flags is not None:
        for row, flag in zip(known, flags.tolist(), strict=True):
            row["on_topic"] = bool(flag)
    return verdicts


def _prompt_texts(job: Job, language: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for task_id in job.inputs_of("prompts"):
        if task_id.startswith(f"prompts/{language}.test"):
            texts |= {item.prompt_id: item.text for item in read_prompts(job.input(task_id, FILE))}
    return texts
