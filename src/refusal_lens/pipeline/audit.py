"""An audit from start to end: load prompts, plan, run the tasks, publish the final tables.

Everything that can be wrong with the user's input is looked at before the run directory is touched.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from refusal_lens.config import AuditConfig, Transport, parse_config
from refusal_lens.core.interventions import SHIPPED
from refusal_lens.core.json_files import read_json
from refusal_lens.core.redact import redact_text
from refusal_lens.engines import check_asked
from refusal_lens.errors import RunError, UserError
from refusal_lens.executors import OnAdvance, WorkerFactory, get_executor
from refusal_lens.interventions import check_model
from refusal_lens.judging import Judge, thinking_of
from refusal_lens.languages import get_language
from refusal_lens.model import LensModel, check_source, fingerprint, identify, resolve_dtype
from refusal_lens.pipeline.dataset import ASKED, Dataset, all_languages, load_dataset
from refusal_lens.pipeline.driver import run_tasks
from refusal_lens.pipeline.plan import Identity, plan
from refusal_lens.pipeline.provenance import check_takeover, earlier_header, header, header_of_checks, header_of_model
from refusal_lens.pipeline.registry import STEPS
from refusal_lens.pipeline.served import served_model
from refusal_lens.pipeline.sharing import groups_of
from refusal_lens.pipeline.steps import checks as checks_step
from refusal_lens.pipeline.steps.selection import NO_VALID_DIRECTION, SELECTED
from refusal_lens.pipeline.worker import Worker, WorkerMaker, engine_of, judge_of, load_audited
from refusal_lens.rundir import RunDir, Store
from refusal_lens.types import Outcome, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """An audit that is ready to run: inputs checked and loaded, tasks planned, nothing written."""

    config: AuditConfig
    dataset: Dataset
    identity: Identity
    tasks: tuple[Task, ...]
    model: LensModel | None = field(default=None, repr=False)
    judge: Judge | None = field(default=None, repr=False)


@dataclass(frozen=True)
class AuditResult:
    """How an audit ended.

    Attributes:
        path: The run directory.
        computed: Tasks computed in this call; the others were valid already.
        valid_sources: Source languages with a valid direction.
        why_none: Per source without one, the reason.
    """

    path: Path
    computed: int
    valid_sources: tuple[str, ...]
    why_none: dict[str, str]


def prepare(
    config: AuditConfig,
    *,
    asked: Collection[str] = ASKED,
    model: LensModel | None = None,
    judge: Judge | None = None,
) -> Prepared:
    """Check and load an audit's inputs and plan its tasks.

    Args:
        config: The audit.
        asked: Settings given by name, see `load_dataset`.
        model: The model that `config` names, where the caller has loaded it. Its weights are those of its files.
        judge: A judge of the caller's instead of the one that `config` names; its name enters the keys.

    Returns:
        What `run_audit` needs; its configuration names the number format that `auto` stands for.

    Raises:
        UserError: Something about the model, the prompts or the languages is wrong.
    """
    for language in all_languages(config):
        get_language(language)
    if (model is not None or judge is not None) and not _in_this_process(config.transport):
        raise UserError("a loaded model or a judge object works in this process alone: one local worker, no store")
    own = sorted(set(config.interventions.chosen) - SHIPPED)
    if own and not _in_this_process(config.transport):
        raise UserError(
            f"{', '.join(own)}: registered in this process, and workers are processes of their own that do not know it; "
            "run with one local worker and no store (--workers 1)"
        )
    check_asked(engine_of(config.transport), here=config.transport.executor == "local")
    judging = judge_of(config, judge)
    name = judging.name
    config = config.model_copy(update={"thinking_format": thinking_of(judging)})
    if redact_text(name) != name:
        raise UserError("--judge: the model's name looks like a key; give keys as environment variables")
    wanted = config.model
    template = Path(wanted.chat_template) if wanted.chat_template else None
    served = served_model(config) if model is None else None
    if served is not None:
        model_digest = served.digest
    elif model is None:
        trust = wanted.trust_remote_code
        check_source(
            wanted.spec,
            revision=wanted.revision,
            chat_template=template,
            thinking=wanted.thinking,
            trust_remote_code=trust,
        )
        config = _with_dtype(config)
        model_digest = fingerprint(
            wanted.spec, revision=wanted.revision, chat_template=template, thinking=wanted.thinking
        )
    else:
        from_model = {name: getattr(model.provenance, name) for name in ("spec", "dtype", "thinking")}
        known = wanted.model_copy(update=from_model)
        config = config.model_copy(update={"model": known})
        model_digest = identify(model)
    dataset = load_dataset(config, asked=asked, model=model)
    base = config.geometry.base
    identity = Identity(model=model_digest, judge=name, base=None if base is None else fingerprint(base))
    return Prepared(config, dataset, identity, tuple(plan(config, dataset, identity)), model, judge)


def run_audit(
    prepared: Prepared,
    out: Path,
    *,
    command: Sequence[str] = (),
    replace: bool = False,
    on_outcome: Callable[[Outcome, int], None] | None = None,
    on_start: Callable[[Task], None] | None = None,
    on_advance: OnAdvance | None = None,
) -> AuditResult:
    """Run a prepared audit in a run directory; valid results of earlier calls are kept.

    Args:
        prepared: The audit.
        out: Run directory; made when absent.
        command: The command line, for provenance.
        replace: Take over the run of another model that stands there; its results are set aside.
        on_outcome: Called with every task's outcome and the number of tasks in all.
        on_start: Called with every task that is handed to a worker.
        on_advance: Called about once a second with how far a running task is.

    Returns:
        How it ended.

    Raises:
        RunError: The directory cannot be used, or holds the run of another model.
        ExecutionError: Some tasks failed; the rest is kept.
    """
    config = prepared.config
    earlier = earlier_header(out)
    if not replace:
        check_takeover(prepared.identity, config, out, earlier)
    transport = config.transport
    executor = get_executor(
        transport.executor,
        workers=transport.workers,
        address=transport.address,
        gpus_per_worker=transport.gpus_per_worker,
        on_advance=on_advance,
    )
    store = Store(transport.store) if transport.store is not None else None
    if store is not None:
        store.check()
    alone = _in_this_process(transport)
    model, measured, known = prepared.model, None, None
    served = served_model(config) if model is None else None
    if served is not None:
        if not (out / "run.json").exists():
            served.check()
    elif transport.executor == "local" and (model is not None or not (out / "run.json").exists()):
        loaded = load_audited(config, given=model)  # a model that cannot be used must not leave a run directory behind
        measured, known = check_model(loaded), loaded.provenance
        model = loaded if alone else None
        del loaded
    checks = earlier.get("checks") if measured is None else {**header_of_checks(measured), **header_of_model(known)}
    about = header(config, prepared.identity, prepared.dataset, command, earlier)
    run = RunDir.create(out, header=about if checks is None else {**about, "checks": checks})
    total = len(prepared.tasks)
    computed = 0
    with run.lock():
        factory: WorkerFactory = WorkerMaker(str(run.root), config)
        if alone:
            factory = partial(_same, Worker(run, config, prepared.dataset, model, prepared.judge))

        def count(outcome: Outcome) -> None:
            nonlocal computed
            computed += outcome.status == "done"
            if on_outcome is not None:
                on_outcome(outcome, total)

        summary = run_tasks(
            run,
            prepared.tasks,
            executor=executor,
            worker_factory=factory,
            on_outcome=count,
            on_start=on_start,
            store=store,
            groups=groups_of(config, prepared.dataset, prepared.tasks),
        )
        summary.raise_on_failure()
        run.replies.unlink(missing_ok=True)
        if any(task.task_id == checks_step.TASK for task in prepared.tasks):
            file = run.path(checks_step.TASK, checks_step.FILE)
            run.add_to_header({"checks": read_json(file, error=RunError)})
        publish(run, prepared.tasks)
        if store is not None:
            store.push_rest(run)
        return _result(run, prepared, computed)


def resume_config(path: Path) -> AuditConfig:
    """The configuration a run directory was started with.

    Args:
        path: Run directory.

    Returns:
        Its configuration.

    Raises:
        RunError: Not a run directory of an audit.
    """
    header = RunDir.open(path).header
    if "config" not in header:
        raise RunError(f"{path}: run.json holds no configuration; start the audit anew with the same --out")
    return parse_config(header["config"], where=f"{path}/run.json")


def publish(run: RunDir, tasks: Sequence[Task]) -> None:
    """Put the final tables of all table steps into `RUN/tables`, byte for byte."""
    for task in tasks:
        if STEPS[task.step].published:
            record = run.record(task.task_id)
            assert record is not None, f"{task.task_id} is finished"
            for name in sorted(record.outputs):
                run.publish(run.path(task.task_id, name))


def _result(run: RunDir, prepared: Prepared, computed: int) -> AuditResult:
    valid: list[str] = []
    why: dict[str, str] = {}
    for source in () if prepared.config.baseline_only else prepared.config.directions.sources:
        status = json.loads(run.path(f"direction/{source}", "status.json").read_text(encoding="utf-8"))
        if status["status"] == SELECTED:
            valid.append(source)
        else:
            why[source] = str(status.get("reason") or NO_VALID_DIRECTION)
    return AuditResult(run.root, computed, tuple(valid), why)


def _in_this_process(transport: Transport) -> bool:
    return transport.executor == "local" and transport.workers == 1 and transport.store is None


def _with_dtype(config: AuditConfig) -> AuditConfig:
    """The configuration with the number format that `auto` stands for: results of two formats must not share a key."""
    wanted, transport = config.model.dtype, config.transport
    remote = (
        transport.executor == "ray" and transport.gpus_per_worker > 0
    )  # the GPUs are elsewhere, not in this process
    found = "bfloat16" if wanted == "auto" and remote else resolve_dtype(wanted, device=transport.device)
    return config.model_copy(update={"model": config.model.model_copy(update={"dtype": found})})


def _same(worker: Worker) -> Worker:
    """A factory of the one worker that this process holds already."""
    return worker
