"""What an audit shows while it runs and before: a progress bar on stderr, the plan and its cost on stdout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
    """A progress bar over the tasks of an audit; yields the callback that moves it."""
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
