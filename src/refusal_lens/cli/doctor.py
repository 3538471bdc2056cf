"""Command: doctor."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_lens.errors import EXIT_USER, ModelError

if TYPE_CHECKING:
    from refusal_lens.interventions import Doctor


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command("doctor")(examine)


def examine(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="testbed:NAME, a model folder, or a hub id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    chat_template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Jinja file that replaces the model's chat template.")
    ] = None,
    thinking: Annotated[
        str,
        typer.Option(metavar="auto|on|off", help="Turn thinking on or off by the chat template's own switch."),
    ] = "auto",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
    ] = False,
) -> None:
    """Examine a model: can it be audited, and do interventions act exactly in it?

    Measures where its blocks are, whether an ablated direction is absent from every reader of the residual stream,
    whether padding or placing hooks changes anything, and whether ablation can live in the weights.

    Exit code 0 when every check passes, 2 when the model cannot be used.

    Example: refusal-lens doctor testbed:aligned --json
    """
    from refusal_lens.interventions import doctor
    from refusal_lens.model import load_model

    try:
        loaded = load_model(
            model,
            revision=revision,
            device=device,
            dtype=dtype,
            chat_template=chat_template,
            thinking=thinking,
            trust_remote_code=trust_remote_code,
        )
    except ModelError as error:
        if as_json:
            empty = dict.fromkeys(("architecture", "n_layers", "d_model", "layout", "folding", "residual_leak"))
            typer.echo(json.dumps({"ok": False, **empty, "error": str(error)}, ensure_ascii=False))
        raise
    found = doctor(loaded)
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False))
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(f"{model}: {found.architecture}, {found.n_layers} layers of {found.d_model}, {found.layout}"),
            title_justify="left",
        )
        for column in ("", "check", "measured"):
            table.add_column(column)
        for check in found.checks:
            table.add_row("ok" if check.ok else "FAILED", Text(check.name), Text(check.detail))
        table.add_row("", "leak under the published hooks", f"{found.published_leak:.1e}")
        console = Console()
        console.print(table)
        for hint in found.hints:
            console.print(Text(f"hint: {hint}"))
        console.print(Text(_advice(model, found)), soft_wrap=True)
    if not found.ok:
        failed = ", ".join(check.name for check in found.checks if not check.ok)
        typer.echo(f"error: {model} fails: {failed}", err=True)
        sys.exit(EXIT_USER)


def _advice(model: str, found: Doctor) -> str:
    """What it comes to in one sentence, and the next command."""
    data = "" if model.startswith("testbed:") else " --data PolyRefuse"
    if found.ok:
        return f"{model} can be audited exactly. Next: refusal-lens audit {model}{data} --dry-run"
    failed = ", ".join(check.name for check in found.checks if not check.ok)
    return (
        f"{model} cannot be audited exactly ({failed}). Next: refusal-lens audit {model}{data} --accept-inexact --dry-run, "
        "which marks every number"
    )
