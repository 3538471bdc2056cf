"""Commands: data download, sources, check, quality. What writes data sets is in `data_build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refusal_lens.cli import data_build
from refusal_lens.cli.outputs import codes_of
from refusal_lens.errors import EXIT_GATE, UserError

if TYPE_CHECKING:
    from refusal_lens.prompts.checking.quality import Quality

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="folder with the PolyRefuse files, or a built data set")]
QUALITY_COLUMNS = ("language", "chrF", "95 %", "BLEU", "95 %", "n", "unscored", "similarity", "lowest chrF", "note")
Format = Annotated[Literal["table", "json"], typer.Option("--format", help="table for people, json for programs")]

data = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Get PolyRefuse, check it, score its translations, add languages and prompts.",
)


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    data_build.register(data)
    app.add_typer(data, name="data")


@data.command()
def download(
    dest: Annotated[Path, typer.Option(metavar="DIR", help="where the files go")] = Path("polyrefuse"),
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL|ARCHIVE|DIR",
            help="a mirror, an archive or a folder instead of the published address",
        ),
    ] = None,
) -> None:
    """Fetch the published prompts and verify every file.

    Goes on where an interrupted download stopped; files that are already right are not fetched again. Proxies are taken
    from the environment. Without a connection: fetch the repository elsewhere and pass it with --from.

    Example: refusal-lens data download --dest polyrefuse
    """
    from refusal_lens.cli.data_view import bar
    from refusal_lens.prompts.building.download import PROVENANCE
    from refusal_lens.prompts.building.download import download as get
    from refusal_lens.prompts.loading.published import published

    wanted = published()
    with bar("files", sum(digest.size for digest in wanted.files.values())) as advance:
        done = get(dest, origin=source, progress=lambda path, count: advance(count, path))
    typer.echo(
        f"{len(done.fetched)} files fetched, {len(done.kept)} already right, all {len(wanted.files)} verified: {dest}"
    )
    for path in done.replaced:
        typer.echo(f"another file stood at {path}: kept as {path}.replaced")
    typer.echo(f"origin: {done.origin}, commit {wanted.commit[:7]}; licences: refusal-lens data sources")
    typer.echo(f"provenance of every file: {dest / PROVENANCE}")


@data.command()
def sources(output: Format = "table") -> None:
    """Show where the published prompts come from and under which licence.

    Example: refusal-lens data sources
    """
    from dataclasses import asdict

    from refusal_lens.cli.data_view import print_json, print_table
    from refusal_lens.prompts.loading.published import published

    listed = [asdict(source) for source in published().sources]
    if output == "json":
        print_json(listed)
    else:
        columns = ("name", "what", "licence", "stated", "citation")
        print_table(columns, [[str(item[key]) for key in columns] for item in listed])


@data.command()
def check(
    folder: Folder,
    output: Format = "table",
    languages: Annotated[
        str | None, typer.Option(metavar="CODES", help="languages to check: en,de,..  [default: published and present]")
    ] = None,
    identify: Annotated[bool, typer.Option(help="tell the language of every prompt (the slowest part)")] = True,
    strict: Annotated[bool, typer.Option(help="exit 4 when there is any problem")] = False,
) -> None:
    """Check a prompt folder: the grid of cells, and every fault by name.

    Exit codes: 0 checked (problems are listed), 2 nothing could be read, 4 problems with --strict.

    Example: refusal-lens data check polyrefuse
    """
    from dataclasses import asdict

    from refusal_lens.cli.data_view import print_grid, print_json, print_table, spinner
    from refusal_lens.prompts.checking.check import check as look

    with spinner("checking") as tell:
        report = look(folder, languages=codes_of(languages), identify=identify, progress=tell)
    problems = [
        {"code": item.code, "where": item.where, "detail": item.detail, "rows": list(item.rows)}
        for item in report.problems
    ]
    if output == "json":
        cells, further = ([asdict(cell) for cell in part] for part in (report.cells, report.further))
        print_json({"cells": cells, "further": further, "problems": problems})
    else:
        print_grid(report.cells)
        print_table(
            ("problem", "where", "detail"),
            [[str(item[key]) for key in ("code", "where", "detail")] for item in problems],
        )
        typer.echo(
            f"{len(problems)} problems in {sum(not cell.missing for cell in (*report.cells, *report.further))} cells"
        )
    if strict and problems:
        raise typer.Exit(EXIT_GATE)


@data.command()
def quality(
    folder: Folder,
    output: Format = "table",
    chart: Annotated[
        Path | None, typer.Option(metavar="FILE", help="picture beside baseline compliance: .html, .svg, .png, .pdf")
    ] = None,
    compliance: Annotated[
        Path | None,
        typer.Option(metavar="RUN|FILE", help="baseline compliance: a run, a CSV (language, rate) or a JSON object"),
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(metavar="MODEL", help="local encoder folder: adds embedding similarity")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the bootstrap")] = 0,
) -> None:
    """Score the back-translations: chrF and BLEU per language with 95 % intervals, and the worst prompts by id.

    Example: refusal-lens data quality polyrefuse --compliance runs/qwen --chart quality.html
    """
    from refusal_lens.cli.data_view import print_json, print_table, spinner
    from refusal_lens.prompts.checking.quality import as_records
    from refusal_lens.prompts.checking.quality import quality as score

    if (chart is None) != (compliance is None):
        raise UserError("a picture needs both --chart FILE and --compliance RUN|FILE")
    similarity = None
    if embedder is not None:
        from refusal_lens.cli.data_embedding import similarity_of

        similarity = similarity_of(embedder)
    with spinner("scoring") as tell:
        scored = score(folder, seed=seed, similarity=similarity, progress=tell)
    if chart is not None and compliance is not None:
        from refusal_lens.prompts.checking.quality_chart import quality_chart, read_compliance, save_chart

        save_chart(quality_chart(scored, read_compliance(compliance)), chart)
        typer.echo(f"chart: {chart}", err=True)
    records = as_records(scored)
    if output == "json":
        print_json(records)
        return
    print_table(QUALITY_COLUMNS, [_quality_row(code, item) for code, item in scored.items()])


def _quality_row(code: str, item: Quality) -> list[str]:
    return [
        code,
        f"{item.chrf:.1f}",
        f"{item.low:.1f} to {item.high:.1f}",
        f"{item.bleu:.1f}",
        f"{item.bleu_low:.1f} to {item.bleu_high:.1f}",
        str(item.n),
        str(len(item.unscored)),
        "" if item.similarity is None else f"{item.similarity:.3f}",
        " ".join(worst.prompt_id for worst in item.worst[:3]),
        item.note or "",
    ]
