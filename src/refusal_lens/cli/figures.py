"""Commands: figure1, figure2. The paper's figures from runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", metavar="FILE.html", help="where the page goes; SVG and CSV beside it")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command()(figure1)
    app.command()(figure2)


def figure1(
    out: Out,
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN..", help="run directories, one a model")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="show the published values of the paper's ten models")] = False,
) -> None:
    """Draw the paper's Figure 1 from runs: answered in every language, untouched and ablated, one panel a model.

    Example: refusal-lens figure1 runs/qwen runs/gemma --paper --out figure1.html
    """
    from refusal_lens.report import build_figure1

    _check(out)
    typer.echo(str(build_figure1(runs or [], paper=paper, out=out)))


def figure2(
    out: Out,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN..", help="run directories, one a model")],
    sources: Annotated[
        str | None, typer.Option(help="source languages to show: de,zh,th  [default: all with a direction]")
    ] = None,
) -> None:
    """Draw the paper's Figure 2 from runs: answered in every language, with the direction of each source language ablated.

    Example: refusal-lens figure2 runs/qwen --sources de,zh,th --out figure2.html
    """
    from refusal_lens.cli.outputs import codes_of
    from refusal_lens.report import build_figure2

    _check(out)
    typer.echo(str(build_figure2(runs, sources=codes_of(sources) or (), out=out)))


def _check(out: Path) -> None:
    from refusal_lens.cli.outputs import check_file
    from refusal_lens.errors import UserError

    if out.suffix.lower() not in {".html", ".htm"}:
        raise UserError(f"--out {out}: a page is written; name it {out.stem or 'figure'}.html")
    for place in (out, out.with_suffix(".svg"), out.with_suffix(".csv")):
        check_file(place, "--out")
