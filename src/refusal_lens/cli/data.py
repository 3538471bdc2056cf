"""Commands: data download, check, quality, build, correct, export, sources."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refusal_lens.errors import EXIT_GATE, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refusal_lens.prompts.building.build import Built
    from refusal_lens.prompts.checking.quality import Quality
    from refusal_lens.types import Prompt

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
        report = look(folder, languages=_codes(languages), identify=identify, progress=tell)
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


@data.command()
def build(
    prompts: Annotated[
        Path, typer.Option(metavar="FILE|DIR", help="English prompts: a file of your own, or a PolyRefuse folder")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the data set; a build there goes on")],
    languages: Annotated[
        str | None, typer.Option(metavar="CODES", help="languages to translate into: sw,hi,..")
    ] = None,
    translator: Annotated[
        str | None, typer.Option(metavar="SPEC", help="hf:MODEL (hub id or folder) or endpoint:URL")
    ] = None,
    no_translate: Annotated[
        bool, typer.Option("--no-translate", help="write a file of your own, in the languages it has, as a data set")
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="text=NAME,..", help="columns of your file with other names, e.g. text=goal,lang=language"
        ),
    ] = None,
    harm: Annotated[
        Literal["harmful", "harmless"] | None,
        typer.Option(help="class of the prompts  [default: harmful for a file, both for a folder]"),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None,
        typer.Option(help="split of the prompts  [default: test for a file, all for a folder]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first N prompts of each cell")] = None,
    licence: Annotated[str | None, typer.Option(help="licence of your own prompts, for the card")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="prompts per call of the translator")] = 16,
) -> None:
    """Translate prompts into more languages and write a data set that audits and Hugging Face `datasets` load.

    Every prompt is translated and back-translated; ids and order are kept; what fails is marked, never dropped. The same
    command again goes on where it stopped and tries failed rows once more.

    Example: refusal-lens data build --prompts mine.txt --languages sw,hi --translator hf:MODEL --out mine
    """
    from refusal_lens.cli.outputs import columns_of

    columns = columns_of(column)
    if no_translate:
        if translator is not None or limit is not None or split is not None:
            raise UserError("--no-translate writes the file as it is: leave --translator, --limit and --split out")
        _build_as_it_is(prompts, out, columns, languages, harm, licence)
        return
    if languages is None or translator is None:
        raise UserError("name the --languages to translate into and the --translator, or say --no-translate")
    from refusal_lens.cli.data_view import bar
    from refusal_lens.judging import get_translator
    from refusal_lens.prompts import said
    from refusal_lens.prompts.building.build import build as make
    from refusal_lens.prompts.building.build import gather

    chosen = gather(prompts, harm=harm, split=split, column=columns.get("text"))
    if limit is not None:
        chosen = _first_of_each(chosen, limit)
    codes = _codes(languages) or ()
    name, spec = str(prompts), get_translator(translator)
    described = str(getattr(spec, "name", translator))
    typer.echo(f"{prompts}: {said(chosen)}", err=True)
    with bar("texts", len({prompt.text for prompt in chosen}) * len(codes)) as advance:
        done = make(
            chosen, languages=codes, translator=spec, translator_name=described, origin=name, out=out, licence=licence,
            batch_size=batch_size, progress=lambda language, count: advance(count, language),
        )  # fmt: skip
    _tell(done)


def _build_as_it_is(
    file: Path,
    out: Path,
    columns: dict[str, str],
    languages: str | None,
    harm: Literal["harmful", "harmless"] | None,
    licence: str | None,
) -> None:
    from refusal_lens.prompts import load_prompt_table
    from refusal_lens.prompts.building.build import build_as_it_is

    table = load_prompt_table(file, columns=columns, languages=_codes(languages) or (), harm=harm)
    for note in (table.summary(), *table.notes):
        typer.echo(note, err=True)
    _tell(build_as_it_is(table, out, licence=licence))


def _tell(done: Built) -> None:
    typer.echo(f"{done.rows} prompts in {len(done.languages)} languages: {done.out} (card: {done.out / 'README.md'})")
    for language, failed in done.failed.items():
        if failed:
            typer.echo(
                f"{language}: {failed} of {done.rows} failed, marked in the data; the same command tries them again"
            )
    for path in done.language_files:
        typer.echo(f"{path}: template for a new language, no refusal phrases yet (docs/adding-a-language.md); "
                   f"use it with REFUSAL_LENS_LANGUAGES={path.parent}")  # fmt: skip


@data.command()
def correct(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a built data set")],
    edits: Annotated[
        Path, typer.Option(metavar="FILE", help="CSV or JSON Lines: prompt_id, language, text, reviewer, date, note")
    ],
) -> None:
    """Apply human corrections to a built data set; they survive later builds.

    Example: refusal-lens data correct mine --edits corrections.csv
    """
    from refusal_lens.prompts.building.corrections import correct as apply
    from refusal_lens.prompts.building.corrections import read_corrections

    read = read_corrections(edits)
    changed = apply(folder, read)
    typer.echo(f"{len(read)} corrections read, {changed} rows changed; kept in {folder / 'corrections.jsonl'}")


@data.command()
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the data set")],
) -> None:
    """Write a PolyRefuse folder as Parquet files with a card, as Hugging Face `datasets` loads them.

    Example: refusal-lens data export polyrefuse --out polyrefuse-parquet
    """
    from refusal_lens.prompts.building.export import export as write

    typer.echo(f"{write(folder, out)} rows: {out} (card: {out / 'README.md'})")


def _codes(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    codes = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not codes:
        raise UserError(f"no language in {text!r}; give codes separated by commas")
    return codes


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


def _first_of_each(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    counts: Counter[tuple[str, str, str]] = Counter()
    chosen: list[Prompt] = []
    for prompt in prompts:
        cell = (prompt.prompt_set, prompt.split, prompt.harm)
        counts[cell] += 1
        if counts[cell] <= limit:
            chosen.append(prompt)
    return chosen
