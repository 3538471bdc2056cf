"""What a worker process holds while it computes tasks: the run directory, the models, the judge, the prompts.

Each is made when first asked for and kept for the life of the process, so that a worker that only writes tables never
loads a model. `WorkerMaker` is picklable: any executor can carry it to another process or machine.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from refusal_lens.config import AuditConfig, Transport
from refusal_lens.interventions import require_sound
from refusal_lens.judging import Judge, PanelJudge, ThinkingJudge, TranslatedJudge, get_judge
from refusal_lens.model import Engine, LensModel, load_model
from refusal_lens.pipeline.dataset import Dataset, load_dataset
from refusal_lens.pipeline.registry import STEPS
from refusal_lens.pipeline.served import served_model
from refusal_lens.pipeline.step import Inputs, Kit
from refusal_lens.rundir import RunDir
from refusal_lens.types import Task

log = logging.getLogger(__name__)


@dataclass
class Worker:
    """Computes tasks of one run in one process; its steps get their tools from it.

    Attributes:
        run: The run directory.
        config: The audit.
        loaded_dataset: Its prompts, where the process has read them already.
        loaded_model: The model, where the process holds it already.
        given_judge: The judge, where it is an object of the caller's.
    """

    run: RunDir
    config: AuditConfig
    loaded_dataset: Dataset | None = field(default=None, repr=False)
    loaded_model: LensModel | None = field(default=None, repr=False)
    given_judge: Judge | None = field(default=None, repr=False)

    @cached_property
    def model(self) -> LensModel:
        """The audited model, loaded once."""
        return self.loaded_model if self.loaded_model is not None else load_audited(self.config)

    @cached_property
    def base_model(self) -> LensModel:
        """The base model, reading the audited model's own chat template, because base models seldom have one."""
        spec = self.config.geometry.base
        assert spec is not None, "a step that uses the base model is planned only where one is named"
        with tempfile.TemporaryDirectory() as folder:
            template = Path(folder) / "chat_template.jinja"
            template.write_text(str(self.model.tokenizer.chat_template), encoding="utf-8")
            loaded = load_model(
                spec,
                device=self.config.transport.device,
                dtype=self.config.model.dtype,
                chat_template=template,
                trust_remote_code=self.config.model.trust_remote_code,
            )
        require_sound(loaded, accept_inexact=self.config.model.accept_inexact)
        return loaded

    @cached_property
    def judge(self) -> Judge:
        """The judge of the audit; it reads answers without their thoughts."""
        return judge_of(self.config, self.given_judge)

    @cached_property
    def dataset(self) -> Dataset:
        """The prompts of the audit, read from their source."""
        return self.loaded_dataset if self.loaded_dataset is not None else load_dataset(self.config, asked=())

    @property
    def kit(self) -> Kit:
        """The tools, nothing of them made yet."""
        return Kit(
            model=lambda: self.model,
            served=lambda: served_model(self.config, memory=self.run.replies) if self.loaded_model is None else None,
            base_model=lambda: self.base_model,
            judge=lambda: self.judge,
            prompts=lambda part: self.dataset.parts[part],
            batch_size=self.config.transport.batch_size,
            engine=engine_of(self.config.transport),
        )

    def __call__(self, task: Task) -> None:
        """Compute a task and write its outputs into the run directory; of a group as many as were computed with it."""
        started, step, tasks = time.perf_counter(), STEPS[task.step], task.members
        if len(tasks) == 1:
            with self.run.writing(task) as folder:
                for output in step.run([(task, inputs_of(self.run, task))], self.kit)[0]:
                    output.write(folder)
        else:
            made = step.run([(one, inputs_of(self.run, one)) for one in tasks], self.kit)
            each = (time.perf_counter() - started) / len(made)
            for one, outputs in zip(tasks, made, strict=False):
                with self.run.writing(one, seconds=each) as folder:
                    for output in outputs:
                        output.write(folder)
        log.debug("%s computed in %.2f s", task.task_id, time.perf_counter() - started)


def inputs_of(run: RunDir, task: Task) -> Inputs:
    """The output files of a task's inputs, as far as they are there."""
    files: dict[str, dict[str, Path]] = {}
    for task_id in task.inputs:
        record = run.record(task_id)
        assert record is not None, f"{task_id} was finished before {task.task_id} started"
        folder = run.folder(task_id)
        files[task_id] = {name: folder / name for name in record.outputs if name not in record.scrubbed}
    return Inputs(files)


def judge_of(config: AuditConfig, given: Judge | None) -> Judge:
    """The judge of an audit, which reads answers without their thoughts.

    Args:
        config: The audit.
        given: A judge of the caller's instead of the one that `config` names.

    Returns:
        The judge; a given one keeps a format of thoughts of its own.
    """
    if given is None:
        return get_judge(config.judge, translate=config.translate, thinking=config.thinking_format)
    if isinstance(given, ThinkingJudge) and given.thinking == "auto":
        given = given.inner
    if isinstance(given, (ThinkingJudge, TranslatedJudge, PanelJudge)):
        return given
    return ThinkingJudge(given, thinking=config.thinking_format)


def load_audited(config: AuditConfig, *, given: LensModel | None = None) -> LensModel:
    """Load the model of an audit, and check it.

    Args:
        config: The audit.
        given: The model, where it is loaded already and only to be checked.

    Returns:
        The model, checked.

    Raises:
        ModelError: It cannot be loaded, lacks what an audit needs, or fails its checks and that was not accepted.
    """
    wanted = config.model
    model = given
    if model is None:
        log.info("loading %s", wanted.spec)
        model = load_model(
            wanted.spec,
            revision=wanted.revision,
            device=config.transport.device,
            dtype=wanted.dtype,
            chat_template=Path(wanted.chat_template) if wanted.chat_template else None,
            thinking=wanted.thinking,
            trust_remote_code=wanted.trust_remote_code,
        )
    found = require_sound(model, accept_inexact=wanted.accept_inexact)
    if not found.ok:
        log.warning("%s is inexact, as accepted: %s", wanted.spec, found.failures)
    return model


def engine_of(transport: Transport) -> Engine:
    """The engine that transport settings ask for."""
    return Engine(transport.engine, plain=transport.plain, tensor_parallel=transport.tensor_parallel)


@dataclass(frozen=True)
class WorkerMaker:
    """Makes a worker for a run directory; picklable."""

    run_path: str
    config: AuditConfig

    def at(self, run_dir: Path) -> WorkerMaker:
        """The same maker for another run directory: workers without a shared disk have one each."""
        return WorkerMaker(str(run_dir), self.config)

    def __call__(self) -> Callable[[Task], None]:
        """Open the run directory and return the worker."""
        return Worker(RunDir.open(Path(self.run_path)), self.config)
