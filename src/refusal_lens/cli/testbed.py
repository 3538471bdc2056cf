"""Command group `testbed`: `list`, and what makes and measures the models where the laboratory is installed.

The laboratory (`refusal_lens_lab`) trains the shipped models. It is part of a checkout and not of the wheel.
"""

from __future__ import annotations

import importlib.util
import json
from typing import Annotated

import typer

from refusal_lens.errors import UserError

HELP = """Small models whose truth is known, to try the tool on: list them, write their corpus, retrain, measure.

Example: refusal-lens audit testbed:aligned --languages en,de,yo
"""
LABORATORY = "refusal_lens_lab"


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_models)
    if importlib.util.find_spec(LABORATORY) is not None:
        from refusal_lens_lab import commands

        commands.register(group)
    else:
        for name in ("corpus", "train", "evaluate"):
            group.command(
                name, hidden=True, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
            )(_absent)
    app.add_typer(group, name="testbed")


def list_models(json_out: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """List the shipped models: what is true of each, where it lies.

    Example: refusal-lens testbed list
    """
    from refusal_lens import testbed

    rows: list[dict[str, str]] = []
    for name in testbed.names():
        known = testbed.truth(name)
        left = [code for code in known.languages if code not in known.aligned]
        try:
            where = str(testbed.locate(name))
        except UserError:
            where = "not installed"
        rows.append(
            {
                "model": f"testbed:{name}",
                "shared": {True: "yes", False: "no", None: "as measured"}[known.shared],
                "unaligned": " ".join(left) or "-",
                "truth": known.says,
                "folder": where,
            }
        )
    if json_out:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    for row in rows:
        typer.echo(f"{row['model']:18} shared: {row['shared']:12} unaligned: {row['unaligned']:4} {row['truth']}")
        typer.echo(f"{'':18} {row['folder']}")


def _absent() -> None:
    """Part of a checkout of the project, not of the installed package."""
    raise UserError(
        f"testbed corpus, train and evaluate need the laboratory that makes the models ({LABORATORY}): it comes with a "
        "checkout of the project (`make install` there), not with the installed package"
    )
