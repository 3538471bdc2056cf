"""Which tasks of an audit go to a worker together, and how many answers are one batch.

A GPU's pass over ten rows takes nearly as long as one over a hundred, and a CPU reads all weights for either. So `completions`
tasks of one kind are answered together, up to the rows of a batch; how many of them a device's memory holds the worker sees.
Keys and results are those of tasks computed one by one. The groups follow from the plan and the number of workers alone, so
that a resumed run puts the same rows into a batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from refusal_lens.config import AuditConfig
from refusal_lens.model import resolve_device
from refusal_lens.model.generate import ACCELERATOR_ROWS, CPU_ROWS
from refusal_lens.pipeline.cells import pass_of
from refusal_lens.pipeline.dataset import Dataset
from refusal_lens.pipeline.registry import STEPS
from refusal_lens.pipeline.served import SERVED
from refusal_lens.types import Task

SHARDS = 4
"""Of a GPU's batch."""


def groups_of(config: AuditConfig, dataset: Dataset, tasks: Sequence[Task]) -> list[list[str]]:
    """The groups of a plan.

    Args:
        config: The audit.
        dataset: Its prompts.
        tasks: The plan.

    Returns:
        Ids of tasks to be computed together, in the plan's order: of each kind so many that every worker has its part and no
        group has more answers than a batch. None of a served model, which takes prompts one by one.
    """
    kinds: dict[Hashable, list[Task]] = {}
    for task in tasks:
        kind = STEPS[task.step].kind_of(task)
        if kind is not None and not config.model.spec.startswith(SERVED):
            kinds.setdefault((task.step, kind), []).append(task)
    most, workers = most_rows(config), config.transport.workers
    return [group for alike in kinds.values() for group in _groups(alike, dataset, most, workers)]


def _groups(tasks: Sequence[Task], dataset: Dataset, most: int, workers: int) -> list[list[str]]:
    """Each task into the first group that has room for it and is not yet a worker's part."""
    sizes = {task.task_id: answers_of(task, dataset) for task in tasks}
    part = -(-sum(sizes.values()) // workers)
    groups: list[list[str]] = []
    filled: list[int] = []
    for name, size in sizes.items():
        room = (place for place, held in enumerate(filled) if held < part and held + size <= most)
        place = next(room, len(groups))
        if place == len(groups):
            groups.append([])
            filled.append(0)
        groups[place].append(name)
        filled[place] += size
    return groups


def most_rows(config: AuditConfig) -> int:
    """Most answers of a group: a shard on a CPU, where its answers take long; on a GPU as many shards as are a batch."""
    transport, shard = config.transport, config.generation.shard_size
    if transport.batch_size != "auto":
        return transport.batch_size
    elsewhere = transport.executor == "ray" and transport.gpus_per_worker > 0
    if not elsewhere and resolve_device(transport.device) == "cpu":
        return min(shard, CPU_ROWS)
    return min(SHARDS * shard, ACCELERATOR_ROWS)


def answers_of(task: Task, dataset: Dataset) -> int:
    """Answers of a `completions` task, as told by its prompts; fewer where a direction turns out not to exist."""
    shared, first, size = pass_of(task.params["cells"]), task.params["first"], task.params["size"]
    assert isinstance(first, int) and isinstance(size, int)
    part = task.inputs[0].removeprefix("prompts/")
    return len(shared.sources) * max(0, min(size, dataset.count(part, shared.prompts) - first))
