"""What an audit will cost before it starts: forward passes, tokens, memory, time.

Pure arithmetic on counts and on a model's size, plus a probe of a second that measures how fast this machine multiplies. No
weight is loaded. Counts are upper bounds where work depends on results (answers may end early, the race drops candidates).

    selection of a source    pairs = candidates * (harmful + harmless ablated + 0.5 * harmless added), fewer when pruned or raced
    every language           train and validation prompts once (filter), train once (means), answers for refusal tokens
    cells                    every test prompt written out once per intervention

It is meant to tell a minute from a day, not a minute from two.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from refusal_lens.directions.batched import ACCELERATOR_TOKENS, CPU_TOKENS
from refusal_lens.directions.selection import PRUNED_SHARE

Sweep: TypeAlias = Literal["exact", "pruned", "race"]

SHARE_OF_SWEEP: dict[Sweep, float] = {"exact": 1.0, "pruned": 0.55, "race": 0.15}
"""Part of the exact sweep's pairs that each way runs; measured on the reference models, see docs/speed.md."""
PROBED_WEIGHTS = 32_000_000
"""More than a cache holds: weights are read from memory for every token that is written."""
READ_ROWS = 256
WRITTEN_ROWS = {"cpu": 16, "accelerator": 128}
"""Answers written side by side where no plan says it. With 128 a step of a 7B shape on an H200 takes the measured 9.2 ms."""
LAYER_SECONDS = {"cpu": 4e-4, "accelerator": 2e-4}
"""What a layer costs beside its multiplications (norms, attention, the interpreter), a pass."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides cost.

    Attributes:
        n_layers: Decoder blocks.
        d_model: Width of the residual stream.
        vocabulary: Size of the vocabulary.
        parameters: Number of weights.
        n_positions: Post-instruction positions.
        bytes_per_value: 4 for float32, 2 for 16-bit formats.
        on_cpu: Whether it runs on the CPU.
        key_width: Numbers a layer keeps of a token as keys, and again as values; None for d_model.
    """

    n_layers: int
    d_model: int
    vocabulary: int
    parameters: int
    n_positions: int
    bytes_per_value: int
    on_cpu: bool
    key_width: int | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """Counts of an audit.

    Attributes:
        languages: Languages whose train and validation prompts are read (targets and sources).
        sources: Languages whose candidates are scored.
        n_train: Train prompts per class.
        n_val: Validation prompts per class.
        answers: Test prompts to answer, summed over all cells (interventions x languages x classes).
        prompt_tokens: Mean length of a rendered prompt, in tokens.
        max_new_tokens: Limit of an answer, in tokens.
        sweep: How candidates are scored.
        geometry_prompts: Prompts recorded for geometry, summed over languages and classes.
        discovery: Train prompts per class and language that are answered to find refusal tokens.
        discovery_tokens: Length of those answers, in tokens.
        layer_step: Candidates of every n-th layer are scored.
    """

    languages: int
    sources: int
    n_train: int
    n_val: int
    answers: int
    prompt_tokens: float
    max_new_tokens: int
    sweep: Sweep = "exact"
    geometry_prompts: int = 0
    discovery: int = 32
    discovery_tokens: int = 48
    layer_step: int = 1


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second a machine reads (prompts) and writes (answers, summed over a batch)."""

    reading: float
    writing: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cost of an audit.

    Attributes:
        forward_passes: Prompts pushed through the model once, candidates of the sweep counted one by one; an answer counts once.
        tokens: Prompt tokens read and answer tokens written at most.
        memory_bytes: Weights plus the largest batch.
        seconds: Expected time; None without a measured speed.
    """

    forward_passes: int
    tokens: int
    memory_bytes: int
    seconds: float | None


def estimate(work: Workload, shape: Shape, *, speed: Speed | None = None) -> Estimate:
    """Add up an audit.

    Args:
        work: What is asked for.
        shape: The model.
        speed: From `probe_speed`; None leaves the time open.

    Returns:
        The estimate.
    """
    discovery = 2 * min(work.discovery, work.n_train) * work.languages
    reading = work.languages * 2 * (2 * work.n_train + work.n_val) + work.geometry_prompts + discovery
    candidates = shape.n_positions * shape.n_layers // work.layer_step
    # An added direction runs through half of the layers on average.
    pairs = math.ceil(work.sources * candidates * work.n_val * 2.5 * SHARE_OF_SWEEP[work.sweep])
    read = (reading + pairs + work.answers + discovery) * work.prompt_tokens
    written = work.answers * work.max_new_tokens + discovery * work.discovery_tokens
    seconds = None if speed is None else read / speed.reading + written / speed.writing
    return Estimate(
        forward_passes=reading + pairs + work.answers + discovery,
        tokens=round(read + written),
        memory_bytes=_memory(work, shape),
        seconds=seconds,
    )


def probe_speed(shape: Shape, device: str, dtype: str, *, written_rows: int | None = None) -> Speed:
    """How fast this machine would read and write tokens if nothing else ran on it, from products of the model's width.

    Args:
        shape: The model.
        device: Where it would run, e.g. "cpu" or "cuda".
        dtype: Its number format, e.g. "float32".
        written_rows: Answers written side by side; None for `WRITTEN_ROWS`.

    Returns:
        Tokens per second of wall time, for a batch of prompts and for a batch of answers.
    """
    columns = max(1, min(shape.parameters, PROBED_WEIGHTS) // shape.d_model)
    weights = torch.ones(shape.d_model, columns, device=device, dtype=getattr(torch, dtype))
    kind = "cpu" if shape.on_cpu else "accelerator"

    def pass_seconds(rows: int) -> float:
        read = torch.ones(rows, shape.d_model, device=device, dtype=weights.dtype)
        taken = min(_timed(read, weights) for _ in range(3))
        return taken * shape.parameters / weights.numel() + LAYER_SECONDS[kind] * shape.n_layers

    written = written_rows or WRITTEN_ROWS[kind]
    return Speed(READ_ROWS / pass_seconds(READ_ROWS), written / pass_seconds(written))


def _timed(rows: torch.Tensor, weights: torch.Tensor) -> float:
    """Seconds of a product; on a CPU those that its threads were at work, or a busy machine would be taken for a slow one."""
    started, worked = time.perf_counter(), time.process_time()
    float((rows @ weights)[0, 0])  # the number must arrive: an accelerator answers before it has computed
    elapsed = time.perf_counter() - started
    return (
        elapsed if rows.device.type != "cpu" else min(elapsed, (time.process_time() - worked) / torch.get_num_threads())
    )


def _memory(work: Workload, shape: Shape) -> int:
    """Weights, the largest single pass, or the cache of one batch of answers, whichever is larger."""
    weights = shape.parameters * shape.bytes_per_value
    tokens = CPU_TOKENS if shape.on_cpu else ACCELERATOR_TOKENS
    kept_layers = math.ceil(shape.n_layers * (1 - PRUNED_SHARE))
    rows = math.ceil(tokens / max(1.0, work.prompt_tokens))
    one_pass = tokens * shape.d_model * 12 * shape.bytes_per_value + rows * shape.vocabulary * 24
    recorded = round(2 * work.n_val * work.prompt_tokens * shape.d_model * kept_layers * shape.bytes_per_value)
    batch = min(256, max(1, work.answers), math.ceil(32768 / max(1.0, work.prompt_tokens + work.max_new_tokens)))
    length = work.prompt_tokens + work.max_new_tokens
    kept = shape.d_model if shape.key_width is None else shape.key_width
    cache = round(2 * batch * length * shape.n_layers * kept * shape.bytes_per_value)
    return weights + max(one_pass + recorded, cache)
