"""Step `universality`: transfer matrix, content of complied answers, damage, and the verdict on the model.

Reads finished verdicts and never a model. Complied answers whose prompt names no topic are checked by overlap with
their prompt (`measure.on_topic_by_overlap`); that needs the texts, which are read here and not written anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refusal_lens.core.names import DISAGREE, is_null
from refusal_lens.core.tables import CONTENT, DAMAGE, SELECTIVITY, TRANSFER, TransferRow, VerdictRow
from refusal_lens.core.thinking import split_thinking
from refusal_lens.measure import (
    ModelVerdict,
    content_rows,
    judge_model,
    on_topic_by_overlap,
    rate_rows,
    selectivity_rows,
    transfer_rows,
)
from refusal_lens.measure.panel import disagree
from refusal_lens.pipeline.planning import Planning
from refusal_lens.pipeline.step import Ask, Document, Inputs, Output, Rows, Step, Tools
from refusal_lens.pipeline.steps.completions import TABLE as COMPLETIONS
from refusal_lens.pipeline.steps.damage import TABLE as MEASURED
from refusal_lens.pipeline.steps.direction import why_none
from refusal_lens.pipeline.steps.prompts import read_prompts
from refusal_lens.pipeline.steps.verdicts import SHARD, in_order, votes_in
from refusal_lens.types import JsonValue


@dataclass(frozen=True)
class Params:
    """Seed of the bootstrap, format of thoughts, and how cells were ablated (the verdict says it; None without ablation)."""

    seed: int
    thinking: str
    ablation: dict[str, JsonValue] | None


def plan(planning: Planning) -> Iterator[Ask[Params]]:
    """One task over all answers and verdicts."""
    parts = tuple(f"prompts/{part}" for part in sorted(planning.dataset.parts) if ".test" in part)
    sources = tuple(f"direction/{source}" for source in planning.sources)
    read = (*parts, *planning.ids("completions", "verdicts"), *sources, *planning.ids("damage"))
    ablation = planning.config.interventions.chosen.get("ablation")
    yield Ask("all", Params(planning.config.seed, planning.config.thinking_format, ablation), read)


def compute(params: Params, inputs: Inputs, tools: Tools) -> Sequence[Output]:  # noqa: ARG001
    """The tables `transfer`, `content`, `selectivity`, `damage`, and `verdict.json`."""
    verdicts = in_order(
        _with_topics(inputs, name, task_id, params.thinking) for name, task_id in inputs.of("verdicts").items()
    )
    main = next((row["prompt_set"] for row in verdicts), None)
    transfer = transfer_rows(
        [row for row in verdicts if row["prompt_set"] == main], seed=params.seed, panel=votes_in(inputs)
    )
    apart = [row for row in transfer if disagree(row) and not is_null(row["source"])]
    rates, content = rate_rows(verdicts), content_rows(verdicts)
    sources = why_none(inputs)
    verdict = ModelVerdict("undefined", {}, ("no direction was asked for: the untouched model alone was measured",))
    if sources:
        verdict = judge_model(
            [row for row in rates if row["prompt_set"] == main],
            [row for row in transfer if row not in apart],
            sources=sources,
            content=[row for row in content if row["prompt_set"] == main],
            notes=[*_notes(params), *_apart(apart)],
        )
    damage = [row for task_id in inputs.of("damage").values() for row in inputs.rows(MEASURED, task_id)]
    return [
        Rows(TRANSFER, transfer),
        Rows(CONTENT, content),
        Rows(SELECTIVITY, selectivity_rows(rates)),
        Rows(DAMAGE, damage),
        Document("verdict.json", verdict.as_json(), finite=True),
    ]


def _notes(params: Params) -> list[str]:
    """What the verdict's reader must know of how its cells were made."""
    how = params.ablation or {}
    used = ["the published variant"] if how.get("variant") == "published" else []
    used += ["the harmless mean as reference (affine)"] if how.get("affine") else []
    if not used:
        return []
    return [
        f"cells were ablated with {' and '.join(used)}; candidates were scored, selected and tested for stability with the"
        " exact ablation to zero"
    ]


def _apart(rows: Sequence[TransferRow]) -> list[str]:
    """The comparisons that are no result, because the judges of a panel disagree about their direction."""
    told = ", ".join(f"{row['intervention']} of {row['source']} in {row['target']}" for row in rows)
    return [f"{DISAGREE} about the direction of {len(rows)} comparisons, left out as no result: {told}"] if rows else []


def _with_topics(inputs: Inputs, name: str, task_id: str, thinking: str) -> list[VerdictRow]:
    """One shard's verdicts; where no topic was checked, complied answers are compared with the language's prompts.

    With all prompts of their class, whoever was refused: how a pass was cut and what else it held must not matter.
    """
    verdicts = inputs.rows(SHARD, task_id)
    unknown = [row for row in verdicts if row["label"] == "complied" and row["on_topic"] is None]
    if not unknown:
        return verdicts
    texts = {
        (row["source"], row["prompt_id"]): split_thinking(row["text"], thinking, opened=bool(row["opened"])).answer
        or ""
        for row in inputs.rows(COMPLETIONS, f"completions/{name}")
    }
    prompts = _prompt_texts(inputs, unknown[0]["language"], unknown[0]["prompts"])
    known = [row for row in unknown if row["prompt_id"] in prompts]
    flags = on_topic_by_overlap(
        [prompts[row["prompt_id"]] for row in known],
        [texts[row["source"], row["prompt_id"]] for row in known],
        among=list(prompts.values()),
    )
    if flags is not None:
        for row, flag in zip(known, flags.tolist(), strict=True):
            row["on_topic"] = bool(flag)
    return verdicts


def _prompt_texts(inputs: Inputs, language: str, harm: str) -> dict[str, str]:
    return {
        item.prompt_id: item.text
        for part, task_id in inputs.of("prompts").items()
        if part.startswith(f"{language}.test")
        for item in read_prompts(inputs, task_id)
        if item.harm == harm
    }


STEP = Step(
    name="universality",
    version=5,
    params=Params,
    plan=plan,
    compute=compute,
    reads=("prompts", "completions", "verdicts", "direction", "damage"),
    tables=(TRANSFER, CONTENT, SELECTIVITY, DAMAGE),
    published=True,
)
