"""Options that several commands have: where results are to go, and the columns of a prompt file.

Where results go is looked at before anything is computed: an hour's work must not fail at its last line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import typer

from refusal_lens.errors import UserError


def check_folder(path: Path, option: str) -> None:
    """Check that a folder is there and writable, or can be made; writes nothing.

    Args:
        path: The folder.
        option: The option that names it, for messages.

    Raises:
        UserError: A file is in its way, or it may not be written.
    """
    place = path.absolute()
    try:
        while not place.exists():
            if place.is_symlink():
                raise UserError(f"{option} {path}: {place} is a link to nowhere; name another folder")
            place = place.parent
        if not place.is_dir():
            raise UserError(f"{option} {path}: {place} is a file, not a folder; name another folder")
    except (OSError, ValueError) as error:  # a name that is too long, a null byte, a loop of links
        raise UserError(f"{option} {str(path)[:200]!r}: no usable name for a folder ({error})") from None
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(
            f"{option} {path}: {place} may not be written (read-only or forbidden); change its permissions or name another folder"
        )


def check_file(path: Path, option: str, *, reads: Iterable[Path | None] = ()) -> None:
    """Check that a file can be written; writes nothing.

    Args:
        path: The file.
        option: The option that names it, for messages.
        reads: The files that the command reads.

    Raises:
        UserError: A folder has its name, its folder may not be written, or the command reads it and would overwrite it.
    """
    for read in reads:
        if read is not None and read.exists() and path.exists() and path.samefile(read):
            raise UserError(f"{option} {path}: is the file that is read and would be overwritten; name another")
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; name a file")
    check_folder(path.parent, option)


def columns_of(given: list[str] | None) -> dict[str, str]:
    """Read `--column text=goal,lang=language`, or a bare name, which is the text's.

    Args:
        given: The option, as often as it was given.

    Returns:
        Column of the file by what it tells.
    """
    pairs = [part.partition("=") for text in given or () for part in text.split(",")]
    return {name.strip() if mark else "text": (column if mark else name).strip() for name, mark, column in pairs}


def codes_of(text: str | None) -> tuple[str, ...] | None:
    """Language codes of an option, each once; None where the option is absent. UserError for one that names none."""
    if text is None:
        return None
    codes = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not codes:
        raise UserError(f"no language in {text!r}; give codes separated by commas")
    return codes


def say_inexact(run: Path) -> None:
    """Say on stderr, beside every number printed of a run, that its model failed its checks, where that was accepted.

    Args:
        run: Run directory.
    """
    from refusal_lens.cli.plain import plain
    from refusal_lens.rundir import RunDir

    checks = RunDir.open(run).header.get("checks")
    failed = checks.get("inexact") if isinstance(checks, dict) else None
    if failed:
        said = f"inexact: the model of {run} failed its checks ({failed}), as accepted: this holds for every number of the run"
        typer.echo(plain(said, one_line=True), err=True)
