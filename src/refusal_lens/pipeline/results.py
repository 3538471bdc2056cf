"""A finished (or unfinished) run as tables: what Python users read after an audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.core.digests import digest_file
from refusal_lens.core.json_files import read_json, read_object
from refusal_lens.directions import Direction
from refusal_lens.errors import NoValidDirection, RunError, UserError
from refusal_lens.pipeline.steps.direction import FILE, STATUS, STEP
from refusal_lens.pipeline.steps.selection import SELECTED
from refusal_lens.report import run_chart, run_html
from refusal_lens.rundir import RunDir, answer_table, read_answers, read_plan
from refusal_lens.types import JsonValue, Task

if TYPE_CHECKING:
    from refusal_lens.report.notebook import RunChart

UNFINISHED = "unfinished"


@dataclass(frozen=True)
class DirectionStatus:
    """A direction that a run was to find, and how that ended.

    Attributes:
        source: Its name: a language, a pool, or a null.
        status: selected, no valid direction, or unfinished.
        reason: Why there is none; None where there is.
        direction: The direction; None where there is none.
    """

    source: str
    status: str
    reason: str | None
    direction: Direction | None


@dataclass(frozen=True)
class Run:
    """A run directory opened for reading."""

    path: Path

    def table(self, name: str) -> pa.Table:
        """One of the final tables.

        Args:
            name: E.g. "rates", "transfer", "candidates", "verdicts".

        Returns:
            The table as pyarrow; `.to_pylist()` or `.to_pandas()` as you like.

        Raises:
            RunError: The run has no such table (yet), or it is damaged.
        """
        file = RunDir.open(self.path).tables_dir / f"{name}.parquet"
        if not file.exists():
            have = ", ".join(sorted(item.stem for item in file.parent.glob("*.parquet"))) or "none"
            raise RunError(
                f"{self.path}: no table {name!r} (tables there: {have}); finish the run with `refusal-lens resume {self.path}`"
            )
        try:
            return pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise RunError(
                f"{file}: damaged ({type(error).__name__}); `refusal-lens resume {self.path}` repairs it"
            ) from None

    @cached_property
    def rates(self) -> pa.Table:
        """Compliance per intervention, source, language and prompt class, with k, n, unscored and a 95 % interval."""
        return self.table("rates")

    @cached_property
    def transfer(self) -> pa.Table:
        """Source x target effects against the target's own baseline."""
        return self.table("transfer")

    @cached_property
    def verdict(self) -> JsonValue:
        """The verdict on universality, with its reasons."""
        file = RunDir.open(self.path).tables_dir / "verdict.json"
        if not file.exists():
            raise RunError(f"{self.path}: no verdict yet; finish the run with `refusal-lens resume {self.path}`")
        return read_json(file, error=RunError, advice=f"`refusal-lens resume {self.path}` repairs it")

    def answers(self, *, languages: Sequence[str] = (), limit: int | None = None) -> pa.Table:
        """Every answer with its prompt, its verdict and the untouched model's label on the same prompt.

        Args:
            languages: Only answers to prompts in these; empty for all.
            limit: At most so many answers of each condition, language and class.

        Returns:
            The columns of the table `verdicts` with `prompt`, `text` (null where it was scrubbed), `n_tokens` and `untouched`.

        Raises:
            UserError: The run has no answers in one of the languages.
            RunError: Nothing is judged yet, or a file is damaged.

        Example:
            rl.open_run("runs/first").answers(languages=["de"]).to_pandas().query("uncertain")
        """
        return answer_table(read_answers(RunDir.open(self.path), languages=languages, limit=limit))

    def chart(self, name: str) -> RunChart:
        """One of the report's charts; it shows itself in a notebook, and `.save("chart.svg")` writes it.

        Args:
            name: E.g. "rates-harmful", "transfer"; an unknown name is answered with those the run has.

        Returns:
            The chart; `.chart` is the altair chart.

        Raises:
            UserError: The run has no such chart.
        """
        return run_chart(self.path, name)

    def _repr_html_(self) -> str:
        """What a notebook shows: the headline table, its sentences and the verdict."""
        return run_html(self.path)

    def directions(self) -> list[DirectionStatus]:
        """Every direction that the run was to find, nulls last, with its status.

        Returns:
            In the plan's order; empty for a run of the baseline alone.

        Raises:
            RunError: The run or one of its directions is damaged.
        """
        run = RunDir.open(self.path)
        return [self._status(run, task) for task in read_plan(run) if task.step == STEP.name]

    def direction(self, source: str = "en") -> Direction:
        """A direction that the run found, to use elsewhere.

        Args:
            source: Its name: a source language, `pooled`, or a null such as `random-0`.

        Returns:
            The raw vector with its position, layer and the model's digest.

        Raises:
            UserError: The run was not to find such a direction.
            NoValidDirection: Selection left no candidate; the message has the reason.
            RunError: The run has not come so far, or the file is damaged.

        Example:
            rl.open_run("runs/first").direction("en").save(Path("en.safetensors"))
        """
        run = RunDir.open(self.path)
        planned = {task.name: task for task in read_plan(run) if task.step == STEP.name}
        if source not in planned:
            known = (
                f"it has {', '.join(planned)}" if planned else "it has none (nothing planned, or the baseline alone)"
            )
            raise UserError(
                f"{self.path}: no direction {source!r} was asked for; {known}. `audit --sources` names sources"
            )
        found = self._status(run, planned[source])
        if found.status == UNFINISHED:
            raise RunError(
                f"{self.path}: the direction {source!r} is not finished; `refusal-lens resume {self.path}` finishes it"
            )
        if found.direction is None:
            raise NoValidDirection(f"{self.path}: no valid direction {source!r}: {found.reason}")
        return found.direction

    def _status(self, run: RunDir, task: Task) -> DirectionStatus:
        record = run.record(task.task_id)
        if record is None or record.key != run.key(task):  # the other key: a result of earlier settings
            return DirectionStatus(task.name, UNFINISHED, None, None)
        advice = f"`refusal-lens resume {self.path}` repairs it"
        for name in record.outputs:
            if digest_file(run.path(task.task_id, name)) != record.outputs[name]:
                raise RunError(f"{run.folder(task.task_id) / name}: does not have its recorded digest; {advice}")
        status = read_object(run.path(task.task_id, STATUS), error=RunError, advice=advice)
        if status.get("status") != SELECTED:
            return DirectionStatus(task.name, str(status.get("status")), str(status.get("reason")), None)
        return DirectionStatus(task.name, SELECTED, None, Direction.load(run.path(task.task_id, FILE)))


def open_run(path: str | Path) -> Run:
    """Open a run directory for reading.

    Args:
        path: The run directory.

    Returns:
        Its tables, read when asked for.

    Raises:
        RunError: Not a run directory.
    """
    RunDir.open(Path(path))
    return Run(Path(path))
