"""Command group `direction`: show what a run found, export it, import a published one.

A direction is measurement data: one vector, its place and the model it belongs to. No model is read or written here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_lens.cli.outputs import check_file, say_inexact
from refusal_lens.cli.printing import All, Format
from refusal_lens.errors import UserError

if TYPE_CHECKING:
    from refusal_lens.directions import Direction
    from refusal_lens.pipeline.results import DirectionStatus

HELP = """Use the direction that an audit found: show it, export it to one safetensors file, import a published one.

Example: refusal-lens direction export runs/qwen --source en --out en.safetensors
"""
SUFFIX = ".safetensors"
Out = Annotated[Path, typer.Option("--out", metavar="FILE.safetensors", help="file to write")]
Force = Annotated[bool, typer.Option("--force", help="replace a file that is in the way")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    group.command("show")(show)
    group.command("export")(export)
    group.command("import")(import_)
    app.add_typer(group, name="direction")


def show(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN|FILE..", help="run directories or direction files")],
    format: Annotated[Format, typer.Option(help="table, csv or json")] = Format.table,  # noqa: A002
    everything: All = False,
) -> None:
    """Show directions: status, layer, position, norm, and the cosines between them.

    Example: refusal-lens direction show runs/qwen

    The table leaves random and shuffled directions out unless --all is given; csv and json have them.
    """
    from refusal_lens.cli.printing import print_rows, print_table, readable
    from refusal_lens.core.names import is_null

    found = [item for path in paths for item in _read(path, several=len(paths) > 1)]
    if format is Format.table and not everything:
        found = [(name, item) for name, item in found if not is_null(item.source)]
    if not found:
        typer.echo("no direction here: the run measured the baseline alone, or nothing is planned yet", err=True)
    vectors = {name: item.direction for name, item in found if item.direction is not None}
    facts = {name: _facts(name, item) for name, item in found}
    cosines = {name: {other: _cosine(vectors.get(name), vectors[other]) for other in vectors} for name in facts}
    columns = ("source", "status", "layer", "position", "norm", "model", "reason")
    if format is Format.table:
        shown = columns if any(row["reason"] for row in facts.values()) else columns[:-1]
        print_rows([{**row, "model": str(row["model"] or "")[:12]} for row in facts.values()], shown, format)
        if len(vectors) > 1:
            lines = [[name, *(readable(cosines[name][other]) or "-" for other in vectors)] for name in vectors]
            print_table(["cosine", *vectors], lines)
        return
    rows = [{**row, **{f"cosine_{other}": cosines[name][other] for other in vectors}} for name, row in facts.items()]
    print_rows(rows, (*columns, *(f"cosine_{other}" for other in vectors)), format)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run directory")],
    out: Out,
    source: Annotated[str, typer.Option(help="which one: a source language, pooled, random-0, ..")] = "en",
    force: Force = False,
) -> None:
    """Export a direction of a run to one safetensors file; exit 3 with the reason where the run found no valid one.

    Example: refusal-lens direction export runs/qwen --source en --out en.safetensors

    Read it with rl.Direction.load, or as tensor `direction` with safetensors alone: docs/directions.md.
    """
    from refusal_lens.pipeline.results import open_run

    _check_out(out, force=force)
    if out.absolute().resolve().is_relative_to(run.absolute().resolve()):
        raise UserError(f"--out {out}: lies in the run, where `verify` would call it foreign; name a place outside")
    direction = open_run(run).direction(source)
    say_inexact(run)
    _write(direction, out)


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="direction.pt, or a vector of another engine: no code is run")
    ],
    out: Out,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON", help="its position and layer  [default: NAME_metadata.json, direction_metadata.json]"
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="its name: the language it was extracted from  [default: the file's, or imported]"),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(min=0, help="which layer, where the file has several or says none (block N writes layer N + 1)"),
    ] = None,
    position: Annotated[
        int | None, typer.Option(max=-1, help="token it was read at  [default: the file's, or -1]")
    ] = None,
    force: Force = False,
) -> None:
    """Import a direction of the published code (.pt and direction_metadata.json), llama.cpp, repeng, lm-eval or steering-vectors.

    Example: refusal-lens direction import direction.pt --metadata direction_metadata.json --source en --out en.safetensors

    The pickle is read as plain tensors; one that needs code to be read is refused. The model stays unknown unless the file is
    one of `refusal-lens export`.
    """
    from refusal_lens.directions import import_foreign

    _check_out(out, force=force, reads=(file, metadata) if metadata else (file,))
    _write(import_foreign(file, metadata=metadata, layer=layer, position=position, source=source), out)


def _read(path: Path, *, several: bool) -> list[tuple[str, DirectionStatus]]:
    """What a run or a file holds, by the name it is shown under."""
    from refusal_lens.directions import Direction
    from refusal_lens.pipeline.results import SELECTED, DirectionStatus, open_run

    if path.is_file():
        one = Direction.load(path)
        found = [DirectionStatus(one.source, SELECTED, None, one)]
    else:
        found = open_run(path).directions()
        say_inexact(path)
    return [(f"{path}:{item.source}" if several else item.source, item) for item in found]


def _facts(name: str, item: DirectionStatus) -> dict[str, object]:
    one = item.direction
    return {
        "source": name,
        "status": item.status,
        "layer": None if one is None else one.layer,
        "position": None if one is None else one.position,
        "norm": None if one is None else float(one.vector.double().norm()),
        "model": None if one is None else one.model_digest,
        "reason": item.reason,
    }


def _cosine(one: Direction | None, other: Direction) -> float | None:
    """None where there is no direction, or the two are of different models' sizes."""
    if one is None or one.vector.shape != other.vector.shape:
        return None
    first, second = one.vector.double(), other.vector.double()
    return max(-1.0, min(1.0, float(first @ second / (first.norm() * second.norm()))))


def _check_out(out: Path, *, force: bool, reads: tuple[Path, ...] = ()) -> None:
    if out.suffix != SUFFIX:
        raise UserError(f"--out {out}: a safetensors file is written; name it {out.stem or 'direction'}{SUFFIX}")
    check_file(out, "--out", reads=reads)
    if not force and (out.exists() or out.is_symlink()):
        raise UserError(f"--out {out}: there is a file already; --force replaces it, or name another")


def _write(direction: Direction, out: Path) -> None:
    from refusal_lens.cli.plain import plain

    direction.save(out)
    norm = float(direction.vector.double().norm())
    name = plain(direction.source, one_line=True)
    typer.echo(f"{out}: direction {name}, layer {direction.layer}, position {direction.position}, norm {norm:.4g}")
