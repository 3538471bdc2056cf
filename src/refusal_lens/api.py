"""One call for a whole audit from Python; the command line's `audit` does the same with a progress bar."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from refusal_lens.config import AuditConfig, DataConfig, DirectionConfig, GenerationConfig, ModelConfig, Transport
from refusal_lens.executors.pace import Lines, heartbeat
from refusal_lens.judging import Judge, JudgeFunction, as_judge
from refusal_lens.languages import resolve_languages
from refusal_lens.model import LensModel
from refusal_lens.pipeline import Run, open_run, prepare, run_audit, weights
from refusal_lens.types import Advance, Rule

log = logging.getLogger(__name__)


def audit(
    model: str | LensModel,
    *,
    out: str | Path,
    data: str | Path | None = None,
    languages: str | Sequence[str] = "all",
    sources: str | Sequence[str] = ("en",),
    limit: int | None = None,
    max_new_tokens: int | None = None,
    rule: Rule = "paper",
    random: int = 3,
    judge: str | Judge | JudgeFunction = "native",
    seed: int = 0,
    device: str = "auto",
    replace: bool = False,
    baseline_only: bool = False,
    progress: bool | None = None,
) -> Run:
    """Audit a chat model and return its tables; for every further setting use `AuditConfig` with `prepare` and `run_audit`.

    Args:
        model: testbed:NAME, a model folder, a hub id, or a loaded model whose weights are those of its files.
        out: Run directory; a second call with the same arguments recomputes nothing.
        data: Folder with the PolyRefuse files; a testbed brings its own prompts.
        languages: Target languages.
        sources: Languages to take directions from.
        limit: Test prompts per language and class; None for all.
        max_new_tokens: Length limit of an answer in tokens; None for 512 (48 on a testbed's own prompts).
        rule: Selection rule.
        random: Number of random null directions.
        judge: Name of the judge, a judge, or a function that takes an `Answer` and gives a `Verdict` or a label. Its name
            enters the keys of what it judged.
        seed: Seed of sampling and null directions.
        device: Where the model runs, where it is not loaded already.
        replace: Take over `out` although another model's run stands there.
        baseline_only: Measure the untouched model alone.
        progress: Show what is running, how far, and how long the rest takes: in a notebook as one line that changes, elsewhere
            as lines on stderr. None shows it in notebooks alone. Every line is also logged at level INFO.

    Returns:
        The finished run.

    Raises:
        UserError: Something about the model, the prompts, the languages or the run directory is wrong.

    Example:
        run = rl.audit("testbed:aligned", out="runs/first", languages="en,de", limit=20)
        print(run.rates.to_pandas())
    """
    loaded = model if isinstance(model, LensModel) else None
    spec = model if isinstance(model, str) else model.provenance.spec
    given = None if isinstance(judge, str) else as_judge(judge)
    tokens = max_new_tokens or (48 if spec.startswith("testbed:") and data is None else 512)
    config = AuditConfig(
        model=ModelConfig(spec=spec),
        data=DataConfig(root=None if data is None else str(data), languages=_codes(languages), limit=limit),
        directions=DirectionConfig(sources=_codes(sources), rule=rule, random=random),
        generation=GenerationConfig(max_new_tokens=tokens),
        judge=judge if isinstance(judge, str) else f"given:{as_judge(judge).name}",
        seed=seed,
        baseline_only=baseline_only,
        transport=Transport(device=device),
    )
    asked = () if languages == "all" else ("languages",)
    prepared = prepare(config, asked=asked, model=loaded, judge=given)
    show = _shown(progress)
    lines = Lines([task.task_id for task in prepared.tasks], show, weights=weights(prepared))

    def advanced(advance: Advance) -> None:
        lines.advanced(advance)
        if isinstance(show, _NotebookLine):
            show.change(lines.now)

    with heartbeat(lines):
        result = run_audit(
            prepared,
            Path(out),
            replace=replace,
            on_start=lines.started,
            on_advance=advanced,
            on_outcome=lines.moved,
        )
    return open_run(result.path)


class _NotebookLine:
    """One line under a notebook's cell that changes in place."""

    def __init__(self) -> None:
        """Show it."""
        display = importlib.import_module("IPython.display").display
        self._handle = display({"text/plain": "loading"}, raw=True, display_id=True)

    def __call__(self, line: str) -> None:
        """Show a line, and log it."""
        log.info(line)
        self.change(line)

    def change(self, line: str) -> None:
        """Show a line."""
        self._handle.update({"text/plain": line}, raw=True)


def _shown(progress: bool | None) -> Callable[[str], None]:
    """What shows lines of progress where this process runs: a notebook's kernel, or any other."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if progress is not False and hasattr(shell, "kernel"):
        return _NotebookLine()

    def say(line: str) -> None:
        log.info(line)
        if progress:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    return say


def _codes(languages: str | Sequence[str]) -> tuple[str, ...]:
    return resolve_languages(languages if isinstance(languages, str) else ",".join(languages))
