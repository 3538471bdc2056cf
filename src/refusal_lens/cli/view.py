"""Command: view. The answers of a run, to be read and marked; nothing of it leaves this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Look at a run's answers: prompt, answer, verdict, evidence, to be filtered, read and marked.

Writes index.html, a page without any network, and answers.jsonl, the same answers for `judge` and `agreement`;
both can be read by you alone, and `scrub` removes them from RUN/view. A verdict that you mark as wrong goes into a
label file, which the page offers for download:

  refusal-lens view runs/qwen --open

  refusal-lens agreement runs/qwen/view/answers.jsonl --labels labels.jsonl --by lang
"""


def register(app: typer.Typer) -> None:
    """Add this module's command to the app."""
    app.command(help=HELP)(view)


def view(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run directory")],
    export: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="where the page goes  [default: RUN/view]")
    ] = None,
    languages: Annotated[str | None, typer.Option(help="only answers in these: en,de,..  [default: all]")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="answers of each condition, language and class  [default: 20,000 in all]"),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
) -> None:
    """Write the page of answers."""
    from rich.console import Console

    from refusal_lens.cli.outputs import check_folder, codes_of
    from refusal_lens.report import build_view
    from refusal_lens.rundir import RunDir

    folder = export or RunDir.open(run).view_dir
    check_folder(folder, "--export")
    with Console(stderr=True).status("writing the page of answers"):
        made = build_view(run, out=folder, languages=codes_of(languages) or (), limit=limit)
    if made.limited is not None:
        typer.echo(
            f"{made.limited} answers of each condition, language and class; --limit and --languages choose others",
            err=True,
        )
    typer.echo(str(made.page))
    if show:
        import webbrowser

        webbrowser.open(made.page.absolute().as_uri())
