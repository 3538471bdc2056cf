"""Commands that write data sets: data build, correct, export."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refusal_lens.cli.outputs import codes_of, columns_of
from refusal_lens.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refusal_lens.prompts.building.build import Built
    from refusal_lens.types import Prompt


def register(data: typer.Typer) -> None:
    """Add the commands to the group `data`."""
    data.command()(build)
    data.command()(correct)
    data.command()(export)


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
    codes = codes_of(languages) or ()
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

    table = load_prompt_table(file, columns=columns, languages=codes_of(languages) or (), harm=harm)
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


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder with the PolyRefuse files")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the data set")],
) -> None:
    """Write a PolyRefuse folder as Parquet files with a card, as Hugging Face `datasets` loads them.

    Example: refusal-lens data export polyrefuse --out polyrefuse-parquet
    """
    from refusal_lens.prompts.building.export import export as write

    typer.echo(f"{write(folder, out)} rows: {out} (card: {out / 'README.md'})")


def _first_of_each(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    counts: Counter[tuple[str, str, str]] = Counter()
    chosen: list[Prompt] = []
    for prompt in prompts:
        cell = (prompt.prompt_set, prompt.split, prompt.harm)
        counts[cell] += 1
        if counts[cell] <= limit:
            chosen.append(prompt)
    return chosen
