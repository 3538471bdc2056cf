"""The plan on disk, and how far it is done: what `status` and `verify` know without the pipeline.

`plan.json` holds whole tasks, so that any process can compute a task's key from the records of its inputs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from refusal_lens.core.files import write_atomic
from refusal_lens.errors import RunError
from refusal_lens.rundir.layout import Layout
from refusal_lens.rundir.records import read_object, seal, split_id, unseal
from refusal_lens.types import Task

PLAN_SCHEMA = 1


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class _PlannedTask:
    step: str
    version: int
    name: str
    params: dict[str, JsonValue]
    inputs: list[str]
    needs_model: bool


@dataclass(frozen=True)
class StepProgress:
    """Tasks of one step: finished with a current result, and planned."""

    done: int
    total: int


@dataclass(frozen=True)
class Progress:
    """How far a run is: by step in the plan's order, and whether every planned task is done."""

    steps: dict[str, StepProgress]
    complete: bool


def write_plan(run: Layout, tasks: Sequence[Task]) -> None:
    """Write the tasks as planned to `plan.json`."""
    content = {"schema_version": PLAN_SCHEMA, "tasks": [asdict(task) for task in tasks]}
    write_atomic(run.plan_path, json.dumps(seal(json.loads(json.dumps(content))), sort_keys=True).encode())


def read_plan(run: Layout) -> list[Task]:
    """The tasks as last planned.

    Args:
        run: The run.

    Returns:
        The tasks in the plan's order; empty when nothing was planned yet.

    Raises:
        RunError: `plan.json` is damaged; the next resume writes it anew.
    """
    if not run.plan_path.exists():
        return []
    content = unseal(read_object(run.plan_path))
    if content is None:
        raise RunError(f"{run.plan_path}: was altered; `refusal-lens resume {run.root}` writes it anew")
    try:
        planned = _ADAPTER.validate_python(content.get("tasks"))
        for task in planned:
            split_id(f"{task.step}/{task.name}")
            for name in task.inputs:
                split_id(name)
    except (ValidationError, ValueError) as error:
        raise RunError(f"{run.plan_path}: is damaged; `refusal-lens resume {run.root}` writes it anew") from error
    return [
        Task(task.step, task.version, task.name, task.params, tuple(task.inputs), task.needs_model) for task in planned
    ]


def progress(run: Layout) -> Progress:
    """Count finished tasks by step. Looks at records and at the presence and size of outputs; hashes nothing.

    Args:
        run: The run; need not be locked.

    Returns:
        The counts; not complete when nothing is planned.

    Raises:
        RunError: The plan is damaged.
    """
    tasks = read_plan(run)
    done: dict[str, int] = {}
    total: dict[str, int] = {}
    for task in tasks:
        total[task.step] = total.get(task.step, 0) + 1
        done[task.step] = done.get(task.step, 0) + is_done(run, task)
    steps = {step: StepProgress(done[step], count) for step, count in total.items()}
    return Progress(steps, bool(tasks) and all(item.done == item.total for item in steps.values()))


def is_done(run: Layout, task: Task) -> bool:
    """Whether a task has a current record and its outputs lie there in their recorded size."""
    record = run.record(task.task_id)
    if record is None or record.key != run.key(task):
        return False
    folder = run.folder(task.task_id)
    for name in record.outputs:
        if name in record.scrubbed:
            continue
        path = folder / name
        if not path.is_file() or (name in record.stats and path.stat().st_size != record.stats[name][0]):
            return False
    return True


_ADAPTER = TypeAdapter(list[_PlannedTask])
