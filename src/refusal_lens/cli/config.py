"""Commands: config init. A configuration file with every setting in it, made from the configuration's own fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

config = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write a file with every setting.")
EXAMPLES: Mapping[str, str] = {
    "spec": '"testbed:aligned"', "languages": '["en", "de"]', "limit": "60", "kl_threshold": "0.2",
    "max_compliance": "0.05", "max_overrefusal": "0.05",
}  # fmt: skip
"""What the file shows where there is no default."""


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.add_typer(config, name="config")


@config.callback()
def group() -> None:
    """Without it, a group of one command would lose that command's name."""


@config.command()
def init(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="where it goes")] = Path("refusal-lens.toml"),
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
) -> None:
    """Write a commented TOML file with every setting of `audit` and `gate` at its default; as it stands it changes nothing.

    Example: refusal-lens config init --out refusal-lens.toml

    Then: refusal-lens audit MODEL --config refusal-lens.toml, and refusal-lens gate RUN --config refusal-lens.toml
    """
    from refusal_lens.cli.outputs import check_file
    from refusal_lens.core.files import PUBLIC_FILE, write_atomic
    from refusal_lens.errors import UserError

    check_file(out, "--out")
    if out.exists() and not force:
        raise UserError(f"--out {out}: there is a file already; --force replaces it, or name another")
    write_atomic(out, template().encode(), mode=PUBLIC_FILE)
    typer.echo(f"{out}: every setting at its default; use it with `refusal-lens audit MODEL --config {out}`")


def template() -> str:
    """A commented TOML file with every setting at its default, each line to be uncommented where it is to be changed.

    Returns:
        The file's text; as it stands it changes nothing.
    """
    from pydantic import BaseModel

    from refusal_lens.config import GATE, AuditConfig, GateConfig

    lines = [
        "# Settings of `refusal-lens audit --config FILE` and `refusal-lens gate RUN --config FILE`.",
        "# Every line shows the default: remove the # of those that you change. Options of the command win.",
        "",
    ]
    tables: dict[str, type[BaseModel]] = {
        name: field.annotation
        for name, field in AuditConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    simple = {name: field for name, field in AuditConfig.model_fields.items() if name not in tables}
    lines += _template_lines(simple)
    for name, node in {**tables, GATE: GateConfig}.items():
        lines += ["", f"[{name}]  # {(node.__doc__ or '').splitlines()[0]}", *_template_lines(node.model_fields)]
    return "\n".join(lines) + "\n"


def _template_lines(fields: Mapping[str, FieldInfo]) -> list[str]:
    lines: list[str] = []
    for name, field in fields.items():
        value = EXAMPLES.get(name, '""') if field.is_required() or field.default is None else _toml(field.default)
        note = f"{field.description}{'' if field.is_required() or field.default is not None else '  [unset]'}"
        lines.append(f"# {name} = {value}  # {note}")
    return lines


def _toml(value: object) -> str:
    """A default as TOML; strings, numbers, truth values and lists of them are all there are."""
    if isinstance(value, dict):
        return "{}"
    return json.dumps(list(value) if isinstance(value, tuple) else value)
