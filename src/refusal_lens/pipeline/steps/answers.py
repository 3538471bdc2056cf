"""Steps `completions` and `verdicts`: what the model answers in one pass, and what the judge makes of each answer.

A pass asks the same prompts under one intervention from one or several directions, each row with its own. Answers under a
direction that does not exist are not generated: they are absent. Completion text is written only here, in the run
directory. Where a prompt names its topic (testbed), a complied answer is also checked for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch
from torch import Tensor

from refusal_lens.directions import Direction
from refusal_lens.interventions import Ablation, Addition, Intervention
from refusal_lens.judging import Answer
from refusal_lens.model import generate
from refusal_lens.pipeline.cells import Pass
from refusal_lens.pipeline.steps.intake import FILE, read_prompts
from refusal_lens.pipeline.steps.selection import read_direction
from refusal_lens.pipeline.tabular import FLAG, INTEGER, REAL, TEXT, Cell, Row, read_rows, schema, write_table
from refusal_lens.pipeline.workshop import Job
from refusal_lens.testbed import on_topic
from refusal_lens.types import Harm, InterventionName, Prompt, Task, Verdict

COMPLETIONS = schema(source=TEXT, prompt_id=TEXT, text=TEXT, n_tokens=INTEGER, finished=FLAG)
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
    """Generate the shard's answers under each direction of the pass."""
    shared = pass_of(job.task)
    prompts = _prompts(job)
    directions = _directions(job, shared)
    asked = [(source, prompt) for source in directions for prompt in prompts]
    rows: list[Row] = []
    if asked:
        options = job.shop.config
        generated = generate(
            job.shop.model,
            [prompt.text for _, prompt in asked],
            max_new_tokens=options.generation.max_new_tokens,
            batch_size=options.transport.batch_size,
            interventions=_interventions(job, shared, directions, repeats=len(prompts)),
            stop_when=_decided(job, [prompt for _, prompt in asked]) if options.generation.stop_when_decided else None,
        )
        rows = [
            {
                "source": source,
                "prompt_id": prompt.prompt_id,
                "text": item.text,
                "n_tokens": len(item.token_ids),
                "finished": item.finished,
            }
            for (source, prompt), item in zip(asked, generated, strict=True)
        ]
    write_table(job.folder, "completions", rows, COMPLETIONS)


def verdicts(job: Job) -> None:
    """Judge the shard's answers, each in its own language."""
    shared = pass_of(job.task)
    language, harm, prompt_set = shared.language, shared.prompts, shared.prompt_set
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
            "intervention": shared.intervention,
            "source": row["source"],
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


def in_order(shards: Iterable[list[dict[str, Cell]]]) -> list[dict[str, Cell]]:
    """Verdicts of many shards as a reader wants them: one direction after the other, all its languages together."""
    rows = [row for shard in shards for row in shard]
    place: dict[tuple[Cell, ...], int] = {}
    for row in rows:
        place.setdefault((row["prompt_set"], row["intervention"], row["source"]), len(place))
    return sorted(rows, key=lambda row: place[row["prompt_set"], row["intervention"], row["source"]])


def _on_topic(prompt: Prompt, verdict: Verdict, answer: str) -> bool | None:
    return on_topic(prompt, answer) if prompt.topic is not None and verdict.label == "complied" else None


def pass_of(task: Task) -> Pass:
    """The pass that a `completions` or `verdicts` task belongs to."""
    intervention, sources, language, harm, prompt_set = cast("list[str | None]", task.params["cells"])
    return Pass(
        cast("InterventionName", intervention),
        tuple(cast("list[str]", sources)),
        language or "",
        cast("Harm", harm),
        prompt_set,
    )


def _prompts(job: Job) -> list[Prompt]:
    harm = pass_of(job.task).prompts
    first, size = cast("int", job.task.params["first"]), cast("int", job.task.params["size"])
    return read_prompts(job.input(job.inputs_of("prompts")[0], FILE), harm=harm)[first : first + size]


def _directions(job: Job, shared: Pass) -> dict[str, Direction | None]:
    """Directions of a pass that exist, by source; the baseline has none and is asked all the same."""
    if shared.intervention == "baseline":
        return dict.fromkeys(shared.sources)
    found = {source: read_direction(job, source) for source in shared.sources}
    return {source: direction for source, direction in found.items() if direction is not None}


def _interventions(
    job: Job, shared: Pass, directions: Mapping[str, Direction | None], *, repeats: int
) -> list[Intervention]:
    """What is done to the rows of a pass: `repeats` rows for each direction, one after the other."""
    applied = [direction for direction in directions.values() if direction is not None]
    options = job.shop.config.interventions
    if not applied:
        return []
    if shared.intervention == "addition":
        layers = sorted({direction.layer for direction in applied})
        return [
            Addition(
                _per_row([d.vector if d.layer == layer else torch.zeros_like(d.vector) for d in applied], repeats),
                layer=layer,
                coefficient=options.coefficient,
            )
            for layer in layers
        ]
    reference = None
    if options.affine:  # a null direction has no harmless mean: it is ablated to zero
        reference = torch.tensor([direction.harmless_projection or 0.0 for direction in applied])
        reference = reference.repeat_interleave(repeats) if len(applied) > 1 else reference[0]
    vectors = _per_row([direction.vector for direction in applied], repeats)
    return [Ablation(vectors, reference=reference, variant=options.variant)]


def _per_row(vectors: list[Tensor], repeats: int) -> Tensor:
    """One vector for all rows where there is only one, else each for its `repeats` rows."""
    return vectors[0] if len(vectors) == 1 else torch.stack(vectors).repeat_interleave(repeats, dim=0)


def _decided(job: Job, prompts: list[Prompt]) -> Callable[[int, str], bool]:
    """A stopping rule for generate: the verdict on the text so far is certain and the judge reads only the beginning."""
    language = pass_of(job.task).language
    judge = job.shop.judge

    def stop(row: int, text: str) -> bool:
        verdict = judge.judge([Answer(text=text, language=language, prompt=prompts[row].text, finished=False)])[0]
        return verdict.label == "refused" and not verdict.uncertain

    return stop
