"""What an audit would cost, in lines for a reader: the plan's counts, priced on the model's size. No weight is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from refusal_lens.directions import Shape, Speed, Workload, estimate, probe_speed
from refusal_lens.errors import ModelError
from refusal_lens.model import outline, resolve_device
from refusal_lens.pipeline.audit import Prepared
from refusal_lens.pipeline.dataset import Missing, all_languages
from refusal_lens.types import Task

SHORT_ANSWER, FEW_PROMPTS = 64, 25
WORTH_SAYING = 0.8
"""A suggestion is made where it leaves at most this share of the time."""
LONG = 120.0
"""Seconds from which on a run is worth shortening."""


def cost_of(prepared: Prepared) -> list[str]:
    """Price a planned audit, as if nothing of it were computed yet.

    Args:
        prepared: A planned audit.

    Returns:
        Lines with forward passes, tokens, memory, time, and what would shorten it.
    """
    try:
        shape, prompt_tokens, device = _shape(prepared)
    except ModelError as error:
        return [f"cost: not estimated ({error})"]
    work = _workload(prepared, prompt_tokens)
    speed = probe_speed(shape, device, prepared.config.model.dtype)
    found = estimate(work, shape, speed=speed)
    seconds = found.seconds or 0.0
    lines = [
        f"forward passes: {found.forward_passes:,} (prompts through the model, candidates of the sweep counted one by one)",
        f"tokens: {found.tokens:,} at most",
        f"memory: about {found.memory_bytes / 2**30:.2f} GiB for weights and the largest batch",
        f"time: at most about {_duration(seconds)} with one worker on this machine (tells a minute from a day)",
    ]
    shorter = sorted(_shorter(work, shape, speed, prepared), key=lambda item: item[0]) if seconds > LONG else []
    worth = [f"{option} (about {_duration(left)})" for left, option in shorter if left < WORTH_SAYING * seconds]
    if worth:
        lines.append(f"shorter: {', '.join(worth)}; --quick is a first look")
    return lines


def missing_lines(missing: tuple[Missing, ...]) -> Iterator[str]:
    """What is missing, languages with the same gap in one line.

    Args:
        missing: Cells that are not there.

    Yields:
        Lines.
    """

    def gap(item: Missing) -> tuple[str, ...]:
        return (item.prompt_set, item.split, item.harm, item.why.replace(item.language, "*"))

    for _, items in groupby(sorted(missing, key=lambda item: (*gap(item), item.language)), key=gap):
        same = list(items)
        languages = ", ".join(dict.fromkeys(item.language for item in same))
        first = same[0]
        yield f"missing: {languages}: {first.split} {first.harm} ({first.prompt_set}): {first.why}"


def _shape(prepared: Prepared) -> tuple[Shape, float, str]:
    wanted = prepared.config.model
    texts = [prompt.text for part in prepared.dataset.parts.values() for prompt in part[:8]]
    found = outline(
        wanted.spec,
        texts,
        revision=wanted.revision,
        chat_template=Path(wanted.chat_template) if wanted.chat_template else None,
        thinking=wanted.thinking,
        trust_remote_code=wanted.trust_remote_code,
    )
    device = resolve_device(prepared.config.transport.device)
    shape = Shape(
        n_layers=found.n_layers,
        d_model=found.d_model,
        vocabulary=found.vocabulary,
        parameters=found.parameters,
        n_positions=found.n_positions,
        bytes_per_value=4 if wanted.dtype == "float32" else 2,
        on_cpu=device == "cpu",
    )
    return shape, found.prompt_tokens, device


def _workload(prepared: Prepared, prompt_tokens: float) -> Workload:
    config, choice = prepared.config, prepared.config.directions
    read = all_languages(config) if config.geometry.enabled else choice.sources
    languages = 0 if config.baseline_only else len(read)
    return Workload(
        languages=languages,
        sources=0 if config.baseline_only else len(choice.sources),
        n_train=choice.n_train,
        n_val=choice.n_val,
        answers=sum(_answers(prepared, task) for task in prepared.tasks if task.step == "completions"),
        prompt_tokens=prompt_tokens,
        max_new_tokens=config.generation.max_new_tokens,
        sweep="race" if choice.mode == "race" else "exact" if choice.full_sweep else "pruned",
        geometry_prompts=2 * languages * config.geometry.prompts_per_class if config.geometry.enabled else 0,
        discovery=choice.discovery,
    )


def _shorter(work: Workload, shape: Shape, speed: Speed, prepared: Prepared) -> Iterator[tuple[float, str]]:
    """Settings that would shorten an audit, each alone, with the seconds that would be left."""

    def seconds(changed: Workload) -> float:
        return estimate(changed, shape, speed=speed).seconds or 0.0

    if work.max_new_tokens > SHORT_ANSWER:
        yield seconds(replace(work, max_new_tokens=SHORT_ANSWER)), f"--max-new-tokens {SHORT_ANSWER}"
    parts = prepared.dataset.parts
    most = max((sum(p.harm == "harmful" for p in part) for name, part in parts.items() if ".test" in name), default=0)
    if most > FEW_PROMPTS:
        fewer = replace(work, answers=work.answers * FEW_PROMPTS // most)
        yield seconds(fewer), f"--limit {FEW_PROMPTS}"
    if work.sources and work.sweep != "race":
        yield seconds(replace(work, sweep="race")), "--mode race"


def _answers(prepared: Prepared, task: Task) -> int:
    cells, first, size = task.params["cells"], task.params["first"], task.params["size"]
    assert isinstance(cells, list) and isinstance(first, int) and isinstance(size, int)
    sources = cells[1]
    assert isinstance(sources, list)
    part = prepared.dataset.parts[task.inputs[0].removeprefix("prompts/")]
    return len(sources) * min(size, sum(prompt.harm == cells[3] for prompt in part) - first)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
