"""Steps `completions` and `verdicts`: what the model answers in one cell, and what the judge makes of each answer.

Answers of a cell whose direction does not exist are not generated: its tables are empty. Completion text is written only
here, in the run directory. Where a prompt names its topic (testbed), a complied answer is also checked for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import cast

from refusal_lens.interventions import Ablation, Addition, Intervention
from refusal_lens.judging import Answer
from refusal_lens.model import generate
from refusal_lens.pipeline.steps.intake import FILE, read_prompts
from refusal_lens.pipeline.steps.selection import read_direction
from refusal_lens.pipeline.tabular import FLAG, INTEGER, REAL, TEXT, Row, read_rows, schema, write_table
from refusal_lens.pipeline.workshop import Job
from refusal_lens.testbed import on_topic
from refusal_lens.types import Completion, Harm, InterventionName, Prompt, Verdict

COMPLETIONS = schema(prompt_id=TEXT, text=TEXT, n_tokens=INTEGER, finished=FLAG)
VERDICTS = schema(
    intervention=TEXT,
    source=TEXT,
    language=TEXT,
    prompts=TEXT,
    prompt_id=TEXT,
    label=TEXT,
    score=REAL,
    uncertain=FLAG,
    reason=TEXT,
    judge=TEXT,
    answer_language=TEXT,
    off_language=FLAG,
    truncated=FLAG,
    on_topic=FLAG,
    reading=TEXT,
    evidence=TEXT,
    prompt_set=TEXT,
)


def completions(job: Job) -> None:
    """Generate the shard's answers under its intervention."""
    intervention, source, _, _, _ = _cell(job)
    prompts = _prompts(job)
    applied = _interventions(job, intervention, source)
    answers: list[Completion] = []
    if applied is not None and prompts:
        options = job.shop.config
        generated = generate(
            job.shop.model,
            [prompt.text for prompt in prompts],
            max_new_tokens=options.generation.max_new_tokens,
            batch_size=options.transport.batch_size,
            interventions=applied,
            stop_when=_decided(job, prompts) if options.generation.stop_when_decided else None,
        )
        answers = [
            Completion(prompt.prompt_id, item.text, len(item.token_ids), item.finished)
            for prompt, item in zip(prompts, generated, strict=True)
        ]
    rows: list[Row] = [
        {"prompt_id": item.prompt_id, "text": item.text, "n_tokens": item.n_tokens, "finished": item.finished}
        for item in answers
    ]
    write_table(job.folder, "completions", rows, COMPLETIONS)


def verdicts(job: Job) -> None:
    """Judge the shard's answers, each in its own language."""
    intervention, source, language, harm, prompt_set = _cell(job)
    by_id = {
        prompt.prompt_id: prompt for prompt in read_prompts(job.input(job.inputs_of("prompts")[0], FILE), harm=harm)
    }
    answers = read_rows(job.input(job.inputs_of("completions")[0], "completions.parquet"))
    pairs = [(by_id[str(row["prompt_id"])], row) for row in answers]
    judged = job.shop.judge.judge(
        [
            Answer(
                text=str(row["text"]),
                language=language,
                prompt=prompt.english or prompt.text,
                finished=bool(row["finished"]),
            )
            for prompt, row in pairs
        ]
    )
    rows: list[Row] = [
        {
            "intervention": intervention,
            "source": source,
            "language": language,
            "prompts": harm,
            "prompt_id": prompt.prompt_id,
            "label": verdict.label,
            "score": verdict.score,
            "uncertain": verdict.uncertain,
            "reason": verdict.reason,
            "judge": verdict.judge,
            "answer_language": verdict.language,
            "off_language": verdict.off_language,
            "truncated": verdict.truncated,
            "on_topic": _on_topic(prompt, verdict, str(row["text"])),
            "reading": verdict.reading,
            "evidence": json.dumps([[item.group, item.start, item.end] for item in verdict.evidence]),
            "prompt_set": prompt_set or prompt.prompt_set,
        }
        for (prompt, row), verdict in zip(pairs, judged, strict=True)
    ]
    write_table(job.folder, "verdicts", rows, VERDICTS)


def _on_topic(prompt: Prompt, verdict: Verdict, answer: str) -> bool | None:
    return on_topic(prompt, answer) if prompt.topic is not None and verdict.label == "complied" else None


def _cell(job: Job) -> tuple[InterventionName, str, str, Harm, str | None]:
    intervention, source, language, harm, prompt_set = cast("list[str | None]", job.task.params["cell"])
    return cast("InterventionName", intervention), source or "", language or "", cast("Harm", harm), prompt_set


def _prompts(job: Job) -> list[Prompt]:
    harm = _cell(job)[3]
    first, size = cast("int", job.task.params["first"]), cast("int", job.task.params["size"])
    return read_prompts(job.input(job.inputs_of("prompts")[0], FILE), harm=harm)[first : first + size]


def _interventions(job: Job, intervention: InterventionName, source: str) -> list[Intervention] | None:
    if intervention == "baseline":
        return []
    direction = read_direction(job, source)
    if direction is None:
        return None
    options = job.shop.config.interventions
    if intervention == "addition":
        return [Addition(direction.vector, layer=direction.layer, coefficient=options.coefficient)]
    reference = direction.harmless_projection if options.affine else None
    return [Ablation(direction.vector, reference=reference, variant=options.variant)]


def _decided(job: Job, prompts: list[Prompt]) -> Callable[[int, str], bool]:
    """A stopping rule for generate: the verdict on the text so far is certain and the judge reads only the beginning."""
    language = _cell(job)[2]
    judge = job.shop.judge

    def stop(row: int, text: str) -> bool:
        verdict = judge.judge([Answer(text=text, language=language, prompt=prompts[row].text, finished=False)])[0]
        return verdict.label == "refused" and not verdict.uncertain

    return stop
