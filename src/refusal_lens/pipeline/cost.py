"""What an audit would cost, in lines for a reader: the plan's counts, priced on the model's size. No weight is loaded.

What would be shorter is the same sum over a changed configuration, so that every option is said with the time it saves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from refusal_lens.config import QUICK, AuditConfig
from refusal_lens.directions import Shape, Speed, Workload, estimate, probe_speed
from refusal_lens.directions.estimate import Sweep
from refusal_lens.errors import ModelError
from refusal_lens.model import outline, resolve_device
from refusal_lens.pipeline.audit import Prepared
from refusal_lens.pipeline.cells import CellName, passes
from refusal_lens.pipeline.dataset import Dataset, Missing, all_languages, test_part
from refusal_lens.pipeline.sharing import answers_of, groups_of
from refusal_lens.types import JsonValue

WORTH_SAYING = 0.1
"""An option is named where it saves at least this share of the time."""
LONG = 120.0
"""Seconds from which on a run is worth shortening."""
BUSY = 1.5
"""Load per core from which on a machine counts as busy."""

_Settings = Mapping[str, Mapping[str, JsonValue]]
OPTIONS: Mapping[str, _Settings] = {
    "--max-new-tokens 64": {"generation": {"max_new_tokens": 64}},
    "--limit 25": {"data": {"limit": 25}},
    "--mode race": {"directions": {"mode": "race"}},
    "--random 1": {"directions": {"random": 1}},
    "--interventions ablation": {"interventions": {"names": ["ablation"], "options": {}}},
}
"""Options that leave an audit what it is: the same languages and sources, coarser."""


def cost_of(prepared: Prepared) -> list[str]:
    """Price a planned audit, as if nothing of it were computed yet.

    Args:
        prepared: A planned audit.

    Returns:
        Lines with forward passes, tokens, memory, time on this machine with nothing else running, and what would shorten it.
    """
    config = prepared.config
    try:
        shape, prompt_tokens, device = _shape(prepared)
    except ModelError as error:
        return [f"cost: not estimated ({error})"]
    speed = probe_speed(shape, device, config.model.dtype, written_rows=_rows_together(prepared))

    def work(changed: AuditConfig) -> Workload:
        return _workload(changed, prepared.dataset, prompt_tokens)

    def seconds(changed: AuditConfig) -> float:
        return estimate(work(changed), shape, speed=speed).seconds or 0.0

    found, whole = estimate(work(config), shape, speed=speed), seconds(config)
    return [
        f"forward passes: {found.forward_passes:,} (prompts through the model, candidates of the sweep counted one by one)",
        f"tokens: {found.tokens:,} at most",
        f"memory: about {found.memory_bytes / 2**30:.2f} GiB for weights and the largest batch",
        f"time: at most about {_duration(whole)} with one worker, if nothing else runs on this machine{_busy(device)}: "
        f"{_parts(work(config), shape, speed)}",
        *(_shorter(config, seconds, whole) if whole > LONG else ()),
    ]


def missing_lines(missing: tuple[Missing, ...]) -> Iterator[str]:
    """What is missing, languages with the same gap in one line.

    Args:
        missing: Cells that are not there.

    Yields:
        Lines.
    """

    def gap(item: Missing) -> tuple[str, ...]:
        why = re.sub(rf"(?<![A-Za-z]){re.escape(item.language)}(?![A-Za-z])", "*", item.why)
        return (item.prompt_set, item.split, item.harm, why)

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
        key_width=found.key_width,
    )
    return shape, found.prompt_tokens, device


def _rows_together(prepared: Prepared) -> int | None:
    """Answers of a call of `generate`, on average."""
    groups = groups_of(prepared.config, prepared.dataset, prepared.tasks)
    grouped = {name for group in groups for name in group}
    answers = sum(answers_of(task, prepared.dataset) for task in prepared.tasks if task.task_id in grouped)
    return round(answers / len(groups)) if groups else None


def _workload(config: AuditConfig, dataset: Dataset, prompt_tokens: float) -> Workload:
    choice = config.directions
    read = all_languages(config) if config.geometry.enabled else choice.sources
    languages = 0 if config.baseline_only else len(read)

    def prompts_of(cell: CellName) -> int:
        count = dataset.count(test_part(cell.language, cell.prompt_set), cell.prompts)
        return count if config.data.limit is None else min(count, config.data.limit)

    return Workload(
        languages=languages,
        sources=0 if config.baseline_only else len(choice.sources),
        n_train=choice.n_train,
        n_val=choice.n_val,
        answers=sum(
            len(item.sources)
            * prompts_of(CellName(item.intervention, "", item.language, item.prompts, item.prompt_set))
            for item in passes(config, prompts_of=prompts_of)
        ),
        prompt_tokens=prompt_tokens,
        max_new_tokens=config.generation.max_new_tokens,
        sweep=sweep_of(config),
        geometry_prompts=2 * languages * config.geometry.prompts_per_class if config.geometry.enabled else 0,
        discovery=choice.discovery,
        discovery_tokens=choice.discovery_tokens,
        layer_step=choice.layer_step,
    )


def sweep_of(config: AuditConfig) -> Sweep:
    """How an audit scores candidates."""
    return "race" if config.directions.mode == "race" else "exact" if config.directions.full_sweep else "pruned"


def _parts(work: Workload, shape: Shape, speed: Speed) -> str:
    """Where the time goes: answers, the sweep, and what is read beside."""
    whole, no_answers, neither = (
        estimate(changed, shape, speed=speed).seconds or 0.0
        for changed in (work, replace(work, answers=0), replace(work, answers=0, sources=0))
    )
    parts = {"answers": whole - no_answers, "sweep": no_answers - neither, "the rest": neither}
    return (
        ", ".join(f"{name} {_duration(part)}" for name, part in parts.items() if part >= 1.0) or "no part over a second"
    )


def _busy(device: str) -> str:
    """That the machine has other work now, which this audit would share it with."""
    if device != "cpu" or not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return (
        f" (now it is busy: load {load:.0f} on {cores} cores, so that it takes longer)" if load > BUSY * cores else ""
    )


def _shorter(config: AuditConfig, seconds: Callable[[AuditConfig], float], whole: float) -> Iterator[str]:
    """Options with what each saves alone, the best first; then what is another, smaller audit."""
    saved = {option: whole - seconds(_with(config, settings)) for option, settings in OPTIONS.items()}
    for option, less in sorted(saved.items(), key=lambda item: -item[1]):
        if less >= WORTH_SAYING * whole:
            yield f"shorter: {option} saves about {_duration(less)}"
    quick = seconds(_with(config, QUICK))
    if quick <= (1 - WORTH_SAYING) * whole:
        yield f"shorter: --quick, a first look, takes about {_duration(quick)} in all"
    if not config.baseline_only:
        bare = seconds(config.model_copy(update={"baseline_only": True}))
        yield f"shorter: --baseline-only, all that a gate needs, takes about {_duration(bare)} in all"


def _with(config: AuditConfig, settings: _Settings) -> AuditConfig:
    """The configuration with other settings; a number is never made larger, but for steps that leave layers out."""
    tree = config.model_dump()
    for section, values in settings.items():
        for name, value in values.items():
            old = tree[section][name]
            shorter = max if name == "layer_step" else min
            tree[section][name] = shorter(value, old) if type(value) is int and type(old) is int else value
    return AuditConfig.model_validate(tree)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
