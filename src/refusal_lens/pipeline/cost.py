"""What an audit would cost: forward passes, tokens, memory, time. Counted from the plan, timed on the model itself.

A row is one prompt through the model once. Counting is exact but for answers, which are counted at their full length:
an upper bound, since rows leave a batch at their end token. Time is the counted tokens over two measured speeds (reading
prompts, writing answers) on a small sample; expect it to be right within a factor of two.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from refusal_lens.config import AuditConfig
from refusal_lens.directions import layer_limit
from refusal_lens.model import LensModel, generate, next_token_logits
from refusal_lens.pipeline.audit import Prepared
from refusal_lens.pipeline.workshop import load_audited
from refusal_lens.types import HARMS, Prompt, Task

SAMPLE = 8
SAMPLE_TOKENS = 8
ADDED_SHARE = 0.55
"""Share of a full pass that an addition costs when it resumes from its layer (mean over layers)."""
TOKEN_ANSWERS = (64, 48)
"""Prompts per class and new tokens of the answers that refusal tokens are found from."""


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of work.

    Attributes:
        name: What is done.
        rows: Prompts sent through the model, repeats included.
        read: Prompt tokens.
        written: Answer tokens, at most.
    """

    name: str
    rows: int
    read: int
    written: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an audit would cost.

    Attributes:
        work: By kind, in the order it is done.
        memory: Weights and cache of one batch, in bytes.
        seconds: Wall time on one worker of this machine, at most.
    """

    work: tuple[Work, ...]
    memory: int
    seconds: float


def estimate(prepared: Prepared) -> Estimate:
    """Count an audit's work and time a sample of it. Loads the model.

    Args:
        prepared: A planned audit.

    Returns:
        The estimate, for computing everything anew.
    """
    model = load_audited(prepared.config)
    work = tuple(_counted(prepared, model))
    sample = [prompt.text for part in prepared.dataset.parts.values() for prompt in part][:SAMPLE]
    reading = _seconds_per_token(model, sample, new_tokens=0)
    writing = _seconds_per_token(model, sample, new_tokens=SAMPLE_TOKENS)
    seconds = sum(item.read for item in work) * reading + sum(item.written for item in work) * writing
    return Estimate(work, _memory(model, prepared.config), seconds)


def cost_of(prepared: Prepared) -> list[str]:
    """The estimate in lines for a reader.

    Args:
        prepared: A planned audit.

    Returns:
        One line per kind of work, then the sums.
    """
    found = estimate(prepared)
    lines = [
        f"{item.name:<22}{item.rows:>10,} rows{item.read:>14,} tokens read{item.written:>14,} written at most"
        for item in found.work
    ]
    rows, read, written = (sum(getattr(item, name) for item in found.work) for name in ("rows", "read", "written"))
    lines.append(f"{'in all':<22}{rows:>10,} rows{read:>14,} tokens read{written:>14,} written at most")
    lines.append(f"memory: about {found.memory / 2**30:.2f} GiB for weights and the cache of one batch")
    lines.append(
        f"time: at most about {_duration(found.seconds)} on one worker here (a rough figure: answers end earlier)"
    )
    return lines


def _counted(prepared: Prepared, model: LensModel) -> Iterable[Work]:
    config, parts = prepared.config, prepared.dataset.parts
    length = {name: _mean_length(model, prompts) for name, prompts in parts.items()}
    selecting = {name: prompts for name, prompts in parts.items() if name.endswith(".select")}
    per_class, new = TOKEN_ANSWERS
    read = rows = 0
    for name, prompts in selecting.items():
        answered = sum(
            min(per_class, sum(item.harm == harm and item.split == "train" for item in prompts)) for harm in HARMS
        )
        rows += answered
        read += round(answered * length[name])
    yield Work("refusal tokens", rows, read, rows * new)
    yield _pass("filtering", selecting, length, 1.0)
    train = {name: tuple(item for item in prompts if item.split == "train") for name, prompts in selecting.items()}
    yield _pass("candidates", train, length, 1.0)
    val = {name: tuple(item for item in prompts if item.split == "val") for name, prompts in selecting.items()}
    sources = {f"{source}.select": val[f"{source}.select"] for source in config.directions.sources}
    layers = model.n_layers if config.directions.full_sweep else layer_limit(model.n_layers)
    passes = 1.0 + ADDED_SHARE / 2
    yield _pass("selection sweep", sources, length, len(model.positions) * max(0, layers - 1) * passes)
    completions = [task for task in prepared.tasks if task.step == "completions"]
    counted = [(_rows_of(task, parts), length[task.inputs[0].removeprefix("prompts/")]) for task in completions]
    rows = sum(count for count, _ in counted)
    yield Work(
        "answers", rows, round(sum(count * mean for count, mean in counted)), rows * config.generation.max_new_tokens
    )


def _pass(name: str, parts: dict[str, tuple[Prompt, ...]], length: dict[str, float], times: float) -> Work:
    rows = sum(len(prompts) for prompts in parts.values())
    read = sum(len(prompts) * length[part] for part, prompts in parts.items())
    return Work(name, round(rows * times), round(read * times))


def _rows_of(task: Task, parts: dict[str, tuple[Prompt, ...]]) -> int:
    cell, first, size = task.params["cell"], task.params["first"], task.params["size"]
    assert isinstance(cell, list) and isinstance(first, int) and isinstance(size, int)
    prompts = parts[task.inputs[0].removeprefix("prompts/")]
    return len([prompt for prompt in prompts if prompt.harm == cell[3]][first : first + size])


def _mean_length(model: LensModel, prompts: tuple[Prompt, ...]) -> float:
    sample = model.render([prompt.text for prompt in prompts[:64]])
    return sum(map(len, sample)) / max(1, len(sample))


def _seconds_per_token(model: LensModel, sample: list[str], *, new_tokens: int) -> float:
    """Seconds per token of a batch: of its prompts, or of its answers once the prompts' share is taken off."""
    tokens = sum(map(len, model.render(sample)))
    next_token_logits(model, sample)
    started = time.perf_counter()
    next_token_logits(model, sample)
    reading = time.perf_counter() - started
    if not new_tokens:
        return reading / tokens
    started = time.perf_counter()
    written = sum(len(answer.token_ids) for answer in generate(model, sample, max_new_tokens=new_tokens))
    return max(0.0, time.perf_counter() - started - reading) / max(1, written)


def _memory(model: LensModel, config: AuditConfig) -> int:
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.hf.parameters())
    width = next(model.hf.parameters()).element_size()
    batch = 64 if config.transport.batch_size == "auto" else config.transport.batch_size
    cache = 2 * model.n_layers * model.d_model * width * batch * config.generation.max_new_tokens
    return weights + cache


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
