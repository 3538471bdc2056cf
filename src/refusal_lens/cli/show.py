"""What an audit shows while it runs and before: progress on stderr, the plan and its cost on stdout.

On a terminal two bars: the whole audit, weighted by the tokens of its tasks, and the task at work with how far it is. Elsewhere
(`audit .. > log 2>&1`) lines: a tenth of a step's tasks is done, a task failed, and one a minute that says what is running, how
far, and how long the rest takes. The run's log gets the same lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from refusal_lens.executors.pace import Lines
    from refusal_lens.pipeline import Prepared
    from refusal_lens.types import Advance, Outcome, Task

NAME = 34
"""Characters of a task's name on a terminal: with a bar of 8 and about 34 for the words it fits into 80."""


class Watchers(NamedTuple):
    """What to call when a task starts, when it says how far it is, and when it ends."""

    on_start: Callable[[Task], None]
    on_advance: Callable[[Advance], None]
    on_outcome: Callable[[Outcome, int], None]


@contextmanager
def progress_of(prepared: Prepared, *, note: Callable[[str], None], quiet: bool = False) -> Generator[Watchers]:
    """Progress over the tasks of an audit.

    Args:
        prepared: The audit.
        note: Takes each line for the log.
        quiet: Show nothing.

    Yields:
        What to call.
    """
    from refusal_lens.executors.pace import Lines, heartbeat
    from refusal_lens.pipeline import weights

    terminal = not quiet and Console(stderr=True).is_terminal

    def tell(line: str) -> None:
        note(line)
        if not (quiet or terminal):
            typer.echo(line, err=True)

    ids = [task.task_id for task in prepared.tasks]
    lines = Lines(ids, tell, workers=prepared.config.transport.workers, weights=weights(prepared))
    loading = f"loading {prepared.config.model.spec}"
    with heartbeat(lines):
        if not terminal:
            if not quiet:
                typer.echo(loading, err=True)
            yield Watchers(lines.started, lines.advanced, lines.moved)
            return
        with Progress(*columns(), console=Console(stderr=True)) as bar:
            yield drawn(lines, bar, len(ids), loading)


def columns() -> tuple[ProgressColumn, ...]:
    """What a bar shows."""
    return SpinnerColumn(), TextColumn("{task.description}"), BarColumn(8), TextColumn("{task.fields[words]}")


def drawn(lines: Lines, bar: Progress, count: int, first: str) -> Watchers:
    """Watchers that keep the lines and draw two bars."""
    whole = bar.add_task(f"{first[:NAME]:<{NAME}}", total=1.0, words="")
    inner = bar.add_task("", total=1.0, words="", visible=False)
    done = 0

    def draw() -> None:
        words = ", ".join(filter(None, (f"{done} of {count} tasks", lines.left)))
        bar.update(
            whole, description=f"{'audit':<{NAME}}", completed=lines.pace.share(dict(lines.running)), words=words
        )
        named = lines.foremost
        if named is None:
            bar.update(inner, visible=False)
            return
        task_id, running = named
        bar.update(
            inner, visible=True, description=f"{task_id[:NAME]:<{NAME}}", completed=running.share, words=running.words
        )

    def started(task: Task) -> None:
        lines.started(task)
        draw()

    def advanced(advance: Advance) -> None:
        lines.advanced(advance)
        draw()

    def moved(outcome: Outcome, total: int) -> None:
        nonlocal done
        done += 1
        lines.moved(outcome, total)
        draw()

    return Watchers(started, advanced, moved)


def plan_table(prepared: Prepared) -> None:
    """Print what an audit would do and what it would cost."""
    from refusal_lens.pipeline import cost_of, missing_lines

    console = Console()
    counts = Counter(task.step for task in prepared.tasks)
    console.print(Text(f"plan of {prepared.config.model.spec}"), soft_wrap=True)
    table = Table("step", "tasks")
    for step, count in counts.items():
        table.add_row(step, str(count))
    console.print(table)
    for line in missing_lines(prepared.dataset.missing):
        console.print(Text(line), soft_wrap=True)
    for line in cost_of(prepared):
        console.print(Text(line), soft_wrap=True)
