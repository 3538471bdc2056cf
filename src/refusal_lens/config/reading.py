"""From a parsed tree or a TOML file to settings: every wrong field is named, an unknown key with the nearest known one.

A file holds an audit's settings and, in its table [gate], what `gate --config` asks of the run.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from refusal_lens.config.settings import AuditConfig, GateConfig, hint
from refusal_lens.errors import UserError
from refusal_lens.types import JsonValue

GATE = "gate"
ConfigT = TypeVar("ConfigT", bound=BaseModel)


def parse_config(data: JsonValue, *, where: str) -> AuditConfig:
    """Validate a configuration tree.

    Args:
        data: Parsed TOML or JSON.
        where: Name of its origin, for messages.

    Returns:
        The frozen configuration.

    Raises:
        UserError: Naming every wrong field; an unknown key comes with the nearest known one.
    """
    return _checked(AuditConfig, data, where)


def read_settings(path: Path) -> dict[str, JsonValue]:
    """Read an audit's settings of a TOML file as they stand there, to be completed before `parse_config` judges them.

    The table [gate] is checked and left out: it enters no audit.

    Args:
        path: The file.

    Returns:
        The settings; every known section is a table.

    Raises:
        UserError: When the file cannot be read, is not TOML, or a section is no table.
    """
    data = _read(path)
    _checked(GateConfig, data.pop(GATE, {}), f"{path}: {GATE}")
    return data


def read_gate(path: Path) -> GateConfig:
    """Read the table [gate] of a TOML file, which may hold an audit's settings beside it.

    Args:
        path: The file.

    Returns:
        What it asks; nothing where there is no such table.

    Raises:
        UserError: When the file cannot be read, or a setting is wrong.
    """
    return _checked(GateConfig, _read(path).get(GATE, {}), f"{path}: {GATE}")


def _checked(kind: type[ConfigT], data: JsonValue, where: str) -> ConfigT:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(
            f"{where}: " + "; ".join(_explain(kind, item["loc"], item["type"], item["msg"]) for item in error.errors())
        ) from None


def _read(path: Path) -> dict[str, JsonValue]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number of 5,000 digits
        raise UserError(f"{path}: not a readable TOML configuration ({error})") from None
    for name in data:
        if (name == GATE or _fields_at((name,))) and not isinstance(data[name], dict):
            raise UserError(f"{path}: {name}: should be a table, [{name}] with a setting a line")
    return data


def _explain(root: type[BaseModel], location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(str(part) for part in location)
    message = message.removeprefix("Value error, ")
    if kind != "extra_forbidden":
        return f"{name}: {message}"
    known = _fields_at(location[:-1], root)
    return f"unknown key {name!r}{hint(str(location[-1]), known)}"


def _fields_at(location: tuple[int | str, ...], root: type[BaseModel] | None = None) -> list[str]:
    node: type[BaseModel] = root or AuditConfig
    for part in location:
        field = node.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        node = field.annotation
    return sorted(node.model_fields)
