"""What an audit shows while it runs and before: progress on stderr, the plan and its cost on stdout.

On a terminal a bar; elsewhere (`audit .. > log 2>&1`) a line when a tenth of a step's tasks is done, one for every failure, and
one a minute that names the running task. The run's log gets the same lines.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from refusal_lens.pipeline import Prepared
    from refusal_lens.types import Outcome, Task

SILENCE = 60.0
"""Seconds after which a log hears what is running."""


class Pace:
    """How far the tasks of a plan are, and how long the rest takes at the mean time of each step's tasks so far."""

    def __init__(self, task_ids: Sequence[str], *, workers: int = 1) -> None:
        """Count the plan's tasks by step."""
        self.totals = Counter(task_id.partition("/")[0] for task_id in task_ids)
        self.done: Counter[str] = Counter()
        self._computed: Counter[str] = Counter()
        self._seconds: dict[str, float] = dict.fromkeys(self.totals, 0.0)
        self._workers = workers

    def add(self, step: str, seconds: float, *, computed: bool = True) -> None:
        """Enter a finished task; one that was valid already says nothing of the pace."""
        self.done[step] += 1
        if computed:
            self._computed[step] += 1
            self._seconds[step] += seconds

    @property
    def left(self) -> float | None:
        """Seconds until the steps are done whose pace is known; None while none is, or where nothing of them is left."""
        waiting = {step: total - self.done[step] for step, total in self.totals.items()}
        seconds = sum(
            count * self._seconds[step] / self._computed[step]
            for step, count in waiting.items()
            if count and self._computed[step]
        )
        return seconds / self._workers if seconds else None


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress_of(
    prepared: Prepared, *, note: Callable[[str], None], quiet: bool = False
) -> Generator[tuple[Callable[[Task], None], Callable[[Outcome, int], None]]]:
    """Progress over the tasks of an audit.

    Args:
        prepared: The audit.
        note: Takes each line for the log.
        quiet: Show nothing.

    Yields:
        What to call when a task starts, and when it ends.
    """
    ids = [task.task_id for task in prepared.tasks]
    workers = prepared.config.transport.workers
    if quiet or not Console(stderr=True).is_terminal:

        def tell(line: str) -> None:
            note(line)
            typer.echo(line, err=True)

        show = note if quiet else tell
        with _heartbeat(lines := Lines(ids, show, workers=workers)):
            yield lines.started, lines.moved
        return
    lines = Lines(ids, note, workers=workers)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("starting", total=len(ids), left="")

        def started(task: Task) -> None:
            lines.started(task)
            bar.update(line, description=task.task_id[:40])

        def moved(outcome: Outcome, total: int) -> None:
            lines.moved(outcome, total)
            left = lines.pace.left
            bar.update(line, advance=1, total=total, left="" if left is None else f"{duration(left)} left")

        yield started, moved


class Lines:
    """Progress as lines: a tenth of a step is done, a task failed, and a sign of life where a minute brought neither."""

    def __init__(self, task_ids: Sequence[str], show: Callable[[str], object], *, workers: int = 1) -> None:
        """Take all tasks of the plan and what shows a line."""
        self.pace = Pace(task_ids, workers=workers)
        self._show = show
        self._began = self._said = time.monotonic()
        self._running: dict[str, float] = {}

    def started(self, task: Task) -> None:
        """A task was given to a worker."""
        self._running[task.task_id] = time.monotonic()

    def moved(self, outcome: Outcome, _total: int) -> None:
        """A task ended."""
        self._running.pop(outcome.task_id, None)
        step = outcome.task_id.partition("/")[0]
        before, total = 10 * self.pace.done[step] // self.pace.totals[step], self.pace.totals[step]
        self.pace.add(step, outcome.seconds, computed=outcome.status == "done")
        if outcome.status == "failed":
            self._say(f"{outcome.task_id} failed")
        if 10 * self.pace.done[step] // total > before:
            left = self.pace.left
            rest = "" if left is None else f", about {duration(left)} left of the steps begun"
            self._say(f"{step}: {self.pace.done[step]} of {total} ({time.monotonic() - self._began:.0f} s{rest})")

    def still(self) -> None:
        """Say what is running, where nothing was said for a minute."""
        now, running = time.monotonic(), list(self._running.items())
        if running and now - self._said >= SILENCE:
            task_id, since = running[0]
            more = f" and {len(running) - 1} more" if len(running) > 1 else ""
            self._say(f"running {task_id}{more} ({now - since:.0f} s)")

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        self._show(line)


@contextmanager
def _heartbeat(lines: Lines) -> Generator[None]:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(SILENCE / 4):
            lines.still()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def plan_table(prepared: Prepared) -> None:
    """Print what an audit would do and what it would cost."""
    from refusal_lens.pipeline import cost_of, missing_lines

    console = Console()
    counts = Counter(task.step for task in prepared.tasks)
    table = Table("step", "tasks", title=f"plan of {prepared.config.model.spec}", title_justify="left")
    for step, count in counts.items():
        table.add_row(step, str(count))
    console.print(table)
    for line in missing_lines(prepared.dataset.missing):
        console.print(Text(line), soft_wrap=True)
    for line in cost_of(prepared):
        console.print(Text(line), soft_wrap=True)
