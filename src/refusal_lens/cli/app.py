"""The `refusal-lens` command: assembles the command groups and turns our errors into one line and an exit code.

Nothing heavy is imported here: each command imports what it needs when it runs, so `--help` stays fast.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, Protocol, runtime_checkable

import typer
from typer.core import TyperGroup

from refusal_lens.cli import (
    analysis,
    audit,
    config,
    data,
    defence_bench,
    defend,
    direction,
    directions,
    doctor,
    export,
    figures,
    judge,
    language,
    monitor,
    report,
    running,
    runs,
    seals,
    tamper,
    testbed,
    view,
)
from refusal_lens.cli.plain import plain
from refusal_lens.core.progress import Listener, listening
from refusal_lens.errors import LensError

SILENCE = 60.0
"""Seconds between two signs of life of a command."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Start": ("demo", "doctor", "audit", "resume", "status", "config"),
    "Look": (
        "rates",
        "transfer",
        "geometry",
        "verdict",
        "direction",
        "report",
        "view",
        "compare",
        "figure1",
        "figure2",
        "export",
    ),
    "Release": ("preregister", "gate", "sign", "verify", "scrub"),
    "Defend": ("monitor", "tamper", "defend", "defence-bench"),
    "Laboratory": ("extract", "score", "select", "judge", "agreement", "data", "testbed"),
}
LAST = "Laboratory"
"""What `--help` shows under which heading; a command named nowhere stands in the last group."""


@runtime_checkable
class _Formatter(Protocol):
    """What is used of the help formatter: newer typer brings its own copy of click's classes, older typer click itself."""

    def section(self, name: str) -> AbstractContextManager[None]: ...
    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...


class _Grouped(TyperGroup):
    def format_commands(self, ctx: Any, formatter: _Formatter) -> None:
        named = {name for names in GROUPS.values() for name in names}
        rest = tuple(name for name in self.list_commands(ctx) if name not in named)
        for title, names in GROUPS.items():
            wanted = (*names, *rest) if title == LAST else names
            known = [(name, command) for name in wanted if (command := self.get_command(ctx, name)) is not None]
            with formatter.section(title):
                formatter.write_dl([(name, command.get_short_help_str(limit=200)) for name, command in known])


app = typer.Typer(
    cls=_Grouped,
    name="refusal-lens",
    help="Audit how a language model refuses, in 14 languages and from the inside.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    audit,
    running,
    runs,
    report,
    export,
    seals,
    analysis,
    direction,
    directions,
    doctor,
    judge,
    data,
    language,
    testbed,
    view,
    config,
    figures,
    monitor,
    tamper,
    defend,
    defence_bench,
):
    group.register(app)


def _version(asked: bool) -> bool:
    if asked:
        from refusal_lens import __version__

        typer.echo(f"refusal-lens {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Audit how a language model refuses, in 14 languages and from the inside."""


def sign_of_life() -> Listener:
    """What loops of any command tell, as a line on stderr once a minute; an audit has its own lines, or none with --quiet."""
    began = said = time.monotonic()

    def say(_share: float, words: str) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= SILENCE:
            said = now
            typer.echo(f"{words} ({now - began:.0f} s)", err=True)

    return say


def main() -> None:
    """Entry point of the console script."""
    # Idle threads that spin cost several times the work on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # What concerns the user is said by us, in one line; workers inherit it.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        with listening(sign_of_life()):
            app()
    except LensError as error:
        typer.echo(f"error: {plain(str(error))}", err=True)
        sys.exit(error.exit_code)
