"""Commands: language new."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from refusal_lens.errors import UserError

language = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Add a language that has no file yet.")


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.add_typer(language, name="language")


@language.callback()
def group() -> None:
    """Without it, a group of one command would lose that command's name."""


@language.command()
def new(
    code: Annotated[str, typer.Argument(metavar="CODE", help="BCP-47 code: hi, sw, pt-BR, ..")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="folder  [default: $REFUSAL_LENS_LANGUAGES, else ./languages]"),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="prompts in the language, to tell the script of a rare one")
    ] = None,
) -> None:
    """Write a language file from the template: names, script and direction filled in, refusal phrases for you to write.

    Example: refusal-lens language new hi
    """
    from refusal_lens.core.files import PUBLIC_FILE, write_atomic
    from refusal_lens.languages import USER_FOLDER_VARIABLE, load_languages
    from refusal_lens.languages.template import english_name, language_file
    from refusal_lens.prompts import check_language, load_file

    check_language(code)
    folder = out or Path(os.environ.get(USER_FOLDER_VARIABLE) or "languages")
    path = folder / f"{code}.toml"
    if code.lower() in {known.lower() for known in load_languages()}:
        raise UserError(f"{code} has a file already; put a changed copy of it into {folder} to replace it")
    if path.exists():
        raise UserError(f"{path} is there already; edit it, or remove it")
    texts = [] if prompts is None else [item.text for item in load_file(prompts, language=code, harm="harmless")]
    write_atomic(path, language_file(code, texts).encode(), mode=PUBLIC_FILE)
    name = english_name(code) or code
    typer.echo(f"{path}: {name}, without refusal phrases yet (docs/adding-a-language.md says how to write them)")
    if os.environ.get(USER_FOLDER_VARIABLE) != str(folder):
        typer.echo(f"use it with: export {USER_FOLDER_VARIABLE}={folder.absolute()}")
