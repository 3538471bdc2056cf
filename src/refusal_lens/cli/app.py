"""The `refusal-lens` command: assembles the command groups and turns our errors into one line and an exit code.

Nothing heavy is imported here: each command imports what it needs when it runs, so `--help` stays fast.
"""

from __future__ import annotations

import os
import sys

import typer

from refusal_lens.cli import analysis, audit, data, directions, doctor, judge, report, runs, testbed
from refusal_lens.cli.plain import plain
from refusal_lens.errors import LensError

app = typer.Typer(
    name="refusal-lens",
    help="Audit how a language model refuses, in 14 languages and from the inside.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (audit, runs, report, analysis, directions, doctor, judge, data, testbed):
    group.register(app)


def main() -> None:
    """Entry point of the console script."""
    # Idle threads that spin cost several times the work on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # What concerns the user is said by us, in one line; workers inherit it.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except LensError as error:
        typer.echo(f"error: {plain(str(error))}", err=True)
        sys.exit(error.exit_code)
