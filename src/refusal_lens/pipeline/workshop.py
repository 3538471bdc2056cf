"""What a worker process holds while it computes tasks: the run directory, the model, the judge, the prompts.

Each is made when first asked for and kept for the life of the process, so that a worker that only writes tables never
loads a model. `WorkshopFactory` is picklable: any executor can carry it to another process or machine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from refusal_lens.config import AuditConfig
from refusal_lens.judging import Judge, get_judge
from refusal_lens.pipeline.dataset import Dataset, load_dataset
from refusal_lens.rundir import RunDir
from refusal_lens.types import Task

if TYPE_CHECKING:
    from refusal_lens.model import LensModel

log = logging.getLogger(__name__)


@dataclass
class Workshop:
    """Tools of one worker process.

    Attributes:
        run: The run directory.
        config: The audit.
        loaded_dataset: Its prompts, where the process has read them already.
        loaded_model: The model, where the process holds it already.
    """

    run: RunDir
    config: AuditConfig
    loaded_dataset: Dataset | None = field(default=None, repr=False)
    loaded_model: LensModel | None = field(default=None, repr=False)

    @cached_property
    def model(self) -> LensModel:
        """The audited model, loaded once."""
        return self.loaded_model if self.loaded_model is not None else load_audited(self.config)

    @cached_property
    def judge(self) -> Judge:
        """The judge of the audit."""
        return get_judge(self.config.judge)

    @cached_property
    def dataset(self) -> Dataset:
        """The prompts of the audit, read from their source."""
        return self.loaded_dataset if self.loaded_dataset is not None else load_dataset(self.config)


def load_audited(config: AuditConfig) -> LensModel:
    """Load the model of an audit.

    Args:
        config: The audit.

    Returns:
        The model, checked.

    Raises:
        ModelError: It cannot be loaded, or lacks what an audit needs.
    """
    from refusal_lens.model import load_model

    wanted = config.model
    log.info("loading %s", wanted.spec)
    return load_model(
        wanted.spec,
        revision=wanted.revision,
        device=config.transport.device,
        dtype=wanted.dtype,
        chat_template=Path(wanted.chat_template) if wanted.chat_template else None,
        trust_remote_code=wanted.trust_remote_code,
    )


@dataclass(frozen=True)
class Job:
    """One task being computed: where its inputs are, and the folder its outputs go to."""

    task: Task
    shop: Workshop
    folder: Path

    def input(self, task_id: str, filename: str) -> Path:
        """A file of an input task.

        Args:
            task_id: One of the task's inputs.
            filename: Name of the file within that task's outputs.

        Returns:
            Its path.
        """
        assert task_id in self.task.inputs, f"{self.task.task_id} reads {task_id}, which is not among its inputs"
        return self.shop.run.path(task_id, filename)

    def inputs_of(self, step: str) -> tuple[str, ...]:
        """Ids of the inputs that belong to one step, in plan order."""
        return tuple(task_id for task_id in self.task.inputs if task_id.startswith(f"{step}/"))


@dataclass(frozen=True)
class WorkshopFactory:
    """Makes a worker for a run directory; picklable."""

    run_path: str
    config: AuditConfig

    def at(self, run_dir: Path) -> WorkshopFactory:
        """The same factory for another run directory: workers without a shared disk have one each."""
        return WorkshopFactory(str(run_dir), self.config)

    def __call__(self) -> Callable[[Task], None]:
        """Open the run directory and return the function that computes one task."""
        shop = Workshop(RunDir.open(Path(self.run_path)), self.config)
        return lambda task: compute(shop, task)


def compute(shop: Workshop, task: Task) -> None:
    """Compute one task and write its outputs into the run directory.

    Args:
        shop: The worker's tools.
        task: What to compute.
    """
    from refusal_lens.pipeline.steps import STEPS

    started = time.perf_counter()
    with shop.run.writing(task) as folder:
        STEPS[task.step](Job(task, shop, folder))
    log.debug("%s computed in %.2f s", task.task_id, time.perf_counter() - started)
