"""Command `tamper`: was a direction taken out of a checkpoint, in which layers, and in which languages does it show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_lens.errors import EXIT_GATE

if TYPE_CHECKING:
    from refusal_lens.tamper import Comparison
    from refusal_lens.tamper.behaviour import BehaviourRow

HELP = """Was this checkpoint tampered with? Looks for a direction taken out of its weights, against the base it was made from.

Examples:

  refusal-lens tamper ./suspect --base Qwen/Qwen2.5-7B-Instruct

  refusal-lens tamper ./suspect --base ./base --languages en,yo --data PolyRefuse --json

No model is loaded unless --languages asks where behaviour changed. Exit codes: 0 clean (identical or trained further), 4
tampered, 2 the two cannot be compared.
"""


def register(app: typer.Typer) -> None:
    """Add this module's command to the app."""
    app.command("tamper", help=HELP)(tamper)


def tamper(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="folder, testbed:NAME or hub id to look at")],
    base: Annotated[str, typer.Option("--base", metavar="BASE", help="the model that it was made from")],
    as_json: Annotated[bool, typer.Option("--json", help="everything as JSON on stdout")] = False,
    languages: Annotated[
        str | None, typer.Option(help="also load both, one after the other, and compare refusal scores: en,de,..")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="folder with the PolyRefuse files, for --languages")] = None,
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="prompts of your own, for --languages")] = None,
    column: Annotated[list[str] | None, typer.Option(metavar="text=NAME,..", help="columns of --prompts")] = None,
    limit: Annotated[int, typer.Option(min=2, help="prompts per language, for --languages")] = 32,
    revision: Annotated[str | None, typer.Option(help="revision of CHECKPOINT, where it is a hub model")] = None,
    base_revision: Annotated[str | None, typer.Option(help="revision of BASE, where it is a hub model")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N")] = "auto",
) -> None:
    """Look for a removed direction."""
    from refusal_lens.cli.directions import progress_of
    from refusal_lens.tamper import compare, open_checkpoint

    both = open_checkpoint(checkpoint, revision=revision), open_checkpoint(base, revision=base_revision)
    with progress_of("comparing tensors") as progress:
        found = compare(*both, progress=progress)
    behaviour: list[BehaviourRow] | None = None
    if languages is not None or data is not None or prompts is not None:
        behaviour = _behaviour(checkpoint, base, languages, data, prompts, column, limit, device)
    if as_json:
        content = {"checkpoint": checkpoint, "base": base, **found.as_json()}
        typer.echo(json.dumps({**content, **({} if behaviour is None else {"behaviour": behaviour})}, indent=1))
    else:
        _say(found, behaviour)
    if found.tampered:
        raise typer.Exit(EXIT_GATE)


def _say(found: Comparison, behaviour: list[BehaviourRow] | None) -> None:
    from refusal_lens.cli.printing import Format, print_rows

    if found.tampered:
        columns = ("name", "layer", "side", "share", "cosine", "removed", "remaining")
        print_rows([{name: getattr(one, name) for name in columns} for one in found.removals], columns, Format.table)
        layers = ", ".join(map(str, found.layers)) or "none, outside the layers alone"
        where = f"tampered: a direction was taken out of {len({one.name for one in found.removals})} tensors; layers: {layers}"
        typer.echo(f"{where}. Agreement of the directions {found.agreement:.2f} (1: one direction everywhere)")
    elif not found.changed:
        typer.echo(f"clean: all {found.compared} tensors are the base's")
    else:
        typer.echo(
            f"clean: {len(found.changed)} of {found.compared} tensors changed, no direction was taken out of any ("
            f"{found.tests} looked at). What training does to refusals this does not see: `refusal-lens compare`"
        )
    if found.only:
        typer.echo(
            f"only in one of the two, not compared: {', '.join(found.only[:5])}{' ..' * (len(found.only) > 5)}",
            err=True,
        )
    if behaviour is not None:
        columns = ("language", "n", "base", "checkpoint", "change", "low", "high")
        print_rows([{name: row[name] for name in columns} for row in behaviour], columns, Format.table)


def _behaviour(
    checkpoint: str,
    base: str,
    languages: str | None,
    data: Path | None,
    prompts: Path | None,
    column: list[str] | None,
    limit: int,
    device: str,
) -> list[BehaviourRow]:
    """Refusal scores of both models, one model in memory at a time."""
    from refusal_lens.cli.monitor_data import open_given
    from refusal_lens.model import load_model
    from refusal_lens.tamper.behaviour import behaviour_rows, refusal_tokens, scores

    given = open_given(
        base, fit_languages=languages or "en", languages=languages, data=data, prompts=prompts, column=column,
        n_train=min(limit, 16), n_val=2, limit=limit, device=device,
    )  # fmt: skip
    harmful = {code: given.prompts(f"{code}.test", "harmful") for code in given.languages}
    harmful = {code: rows for code, rows in harmful.items() if rows}
    tokens = {
        code: refusal_tokens(
            given.model, given.prompts(f"{code}.select", "harmful"), given.prompts(f"{code}.select", "harmless"), code
        )
        for code in harmful
    }
    before = scores(given.model, harmful, tokens)
    del given
    after = scores(load_model(checkpoint, device=device), harmful, tokens)
    return behaviour_rows({code: len(rows) for code, rows in harmful.items()}, before, after)
