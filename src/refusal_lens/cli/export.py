"""Command: export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refusal_lens.cli.outputs import check_file
from refusal_lens.errors import UserError
from refusal_lens.exports import FORMATS, Options, export


class Form(StrEnum):
    """The formats, as `exports.FORMATS` has them; written out for the type checker."""

    eee = "eee"
    eval_results = "eval-results"
    model_card = "model-card"
    markdown = "markdown"
    latex = "latex"
    grades = "grades"
    gguf = "gguf"
    lm_eval = "lm-eval"
    steering_vectors = "steering-vectors"
    pt = "pt"


HELP = f"""Write a run's numbers, or its direction, in the format of a registry, a card, a paper or an engine.

Example: refusal-lens export runs/qwen --format eee --out qwen.json

Numbers are the tables' numbers; what was not measured stays missing. A direction is written raw, to be added.

{chr(10).join(f"{chr(92)}b{chr(10)}{name}: {known.about}{chr(10)}" for name, known in FORMATS.items())}
"""


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command("export", help=HELP)(export_command)


def export_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run directory")],
    form: Annotated[Form, typer.Option("--format", help="what to write")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="file to write")],
    source: Annotated[
        str | None,
        typer.Option(
            help="which direction: a source language, pooled, random-0, ..  [default: en, or the run's first]"
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="ORG/NAME", help="hub id of the benchmark's data set")] = None,
    reference: Annotated[
        float | None, typer.Option(metavar="RATE", min=0, max=1, help="violating rate of a reference model, for grades")
    ] = None,
    coefficient: Annotated[
        float | None, typer.Option(help="multiple to add, for lm-eval  [default: the run's]")
    ] = None,
    blocks: Annotated[str, typer.Option(help="name of the list of blocks in the model, for lm-eval")] = "layers",
    model_hint: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="architecture in llama.cpp's words, for gguf  [default: the model]"),
    ] = None,
) -> None:
    """Write a run's numbers, or its direction, in another house's format."""
    check_file(out, "--out")
    if out.absolute().resolve().is_relative_to(run.absolute().resolve()):
        raise UserError(f"--out {out}: lies in the run, where `verify` would call it foreign; name a place outside")
    options = Options(source, dataset, reference, coefficient, blocks, model_hint)
    for place in export(run, form.value, out=out, options=options):
        typer.echo(str(place))
