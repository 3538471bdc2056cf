"""How the data commands show things: tables and JSON on stdout, bars and spinners on stderr. Nothing is markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from refusal_lens.prompts.checking.results import CellReport
from refusal_lens.types import HARMS, SPLITS

_PIPE_WIDTH = 220


def print_json(value: object) -> None:
    """Write one JSON document to stdout."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=True))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout; into a pipe it is wide rather than wrapped."""
    table = Table(*columns, box=None, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(table)


def print_grid(cells: Sequence[CellReport]) -> None:
    """Write the grid of cells: rows per cell, and an empty place where a cell is missing."""
    kinds = [(harm, split) for harm in HARMS for split in SPLITS]
    counts = {(cell.language, cell.harm, cell.split): cell for cell in cells}
    rows: list[list[str]] = []
    for language in dict.fromkeys(cell.language for cell in cells):
        found = [counts.get((language, harm, split)) for harm, split in kinds]
        rows.append([language, *("missing" if cell is None or cell.missing else str(cell.n) for cell in found)])
    print_table(("language", *(f"{harm} {split}" for harm, split in kinds)), rows)


@contextmanager
def bar(what: str, total: int) -> Generator[Callable[[int, str], None]]:
    """A progress bar on stderr; yields the function that moves it by a count and names what is in hand."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        line = progress.add_task(what, total=total)
        yield lambda count, name: progress.update(
            line, advance=count, description=Text(name[-60:]).plain.replace("[", "(")
        )


@contextmanager
def spinner(what: str) -> Generator[Callable[[str], None]]:
    """A line on stderr that says what is in hand; yields the function that changes it."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        line = progress.add_task(what, total=None)
        yield lambda name: progress.update(line, description=f"{what} {name}".replace("[", "("))
