"""What an audit shows while it runs and before: progress on stderr, the plan and its cost on stdout.

On a terminal a bar; elsewhere (`audit .. > log 2>&1`) a line when a tenth of a step's tasks is done, and one for every failure.
"""

from __future__ import annotations

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
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from refusal_lens.pipeline import Prepared
    from refusal_lens.types import Outcome


@contextmanager
def progress_of(prepared: Prepared) -> Generator[Callable[[Outcome, int], None]]:
    """Progress over the tasks of an audit; yields the callback that moves it."""
    if not Console(stderr=True).is_terminal:
        yield progress_lines([task.task_id for task in prepared.tasks])
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("starting", total=len(prepared.tasks))

        def moved(outcome: Outcome, total: int) -> None:
            step = outcome.task_id.partition("/")[0]
            bar.update(
                line, advance=1, total=total, description=step if outcome.status != "failed" else f"{step} failed"
            )

        yield moved


def progress_lines(task_ids: Sequence[str]) -> Callable[[Outcome, int], None]:
    """Progress as lines on stderr, for logs.

    Args:
        task_ids: All tasks of the plan.

    Returns:
        The callback that takes each outcome.
    """
    totals = Counter(task_id.partition("/")[0] for task_id in task_ids)
    done: Counter[str] = Counter()
    started = time.monotonic()

    def moved(outcome: Outcome, _total: int) -> None:
        step = outcome.task_id.partition("/")[0]
        before, total = 10 * done[step] // totals[step], totals[step]
        done[step] += 1
        if outcome.status == "failed":
            typer.echo(f"{outcome.task_id} failed", err=True)
        if 10 * done[step] // total > before:
            typer.echo(f"{step}: {done[step]} of {total} ({time.monotonic() - started:.0f} s)", err=True)

    return moved


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
