"""From the options of `audit`, a configuration file and a preset to one configuration."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from refusal_lens.errors import UserError

if TYPE_CHECKING:
    from refusal_lens.config import AuditConfig
    from refusal_lens.types import JsonValue

TESTBED_TOKENS = 48
TESTBED_WORKERS, MANY_LANGUAGES = 4, 8
"""Most worker processes that a testbed's audit starts unasked, one per core, and from how many languages on: with fewer
languages the audit is over before the processes have started."""

SERVED_SHARD = 32
"""Answers of one task of a served model: what a lost connection can cost is paid for."""
BY_NAME = {"languages", "n_train", "n_val"}
"""Settings that must be fulfilled where a user gives them, see `pipeline.dataset.load_dataset`."""


def build(
    asked: dict[str, dict[str, JsonValue]],
    top: dict[str, JsonValue],
    file: Path | None,
    preset: Mapping[str, Mapping[str, JsonValue]] = MappingProxyType({}),
) -> tuple[AuditConfig, frozenset[str]]:
    """The configuration (options, then the file, then the preset), and which languages and numbers were given by name."""
    from refusal_lens.config import parse_config, read_settings
    from refusal_lens.languages import resolve_languages

    tree = {} if file is None else read_settings(file)
    for section, values in asked.items():
        given = {key: value for key, value in values.items() if value is not None}
        old = tree.get(section)
        tree[section] = {**(old if isinstance(old, dict) else {}), **given}
    tree |= {key: value for key, value in top.items() if value is not None}
    section = tree["model"]
    if not (isinstance(section, dict) and section.get("spec")):
        raise UserError("no model: give MODEL (testbed:NAME, a folder or a hub id), or [model] spec in --config")
    by_name = {name for part in ("data", "directions") for name in _table(tree, part)} & BY_NAME
    for part, values in preset.items():
        tree[part] = {**values, **_table(tree, part)}
    data, generation = tree["data"], tree["generation"] if "generation" in tree else tree.setdefault("generation", {})
    assert isinstance(data, dict) and isinstance(generation, dict)
    if data.get("prompts") is not None:
        _complete_from_prompts(tree, data)
    if str(section["spec"]).startswith("endpoint:"):
        generation.setdefault("shard_size", SERVED_SHARD)
    data.setdefault("languages", list(resolve_languages("all")))
    if str(section["spec"]).startswith("testbed:") and data.get("root") is None:
        generation.setdefault("max_new_tokens", TESTBED_TOKENS)
        transport, languages = tree.setdefault("transport", {}), data["languages"]
        assert isinstance(transport, dict)
        many = isinstance(languages, list) and len(languages) >= MANY_LANGUAGES
        if many and transport.get("executor", "local") == "local":
            transport.setdefault("workers", min(TESTBED_WORKERS, os.cpu_count() or 1))
    config = parse_config(tree, where=str(file) if file else "command line")
    return config, frozenset(by_name)


def _table(tree: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
    section = tree.get(name)
    return section if isinstance(section, dict) else {}


def _complete_from_prompts(tree: dict[str, JsonValue], data: dict[str, JsonValue]) -> None:
    """Languages that were not asked for are those of the prompt file; its only language is also the source."""
    from refusal_lens.languages import resolve_languages
    from refusal_lens.prompts import load_prompt_table

    columns, asked, directions = data.get("columns"), data.get("languages"), tree.setdefault("directions", {})
    table = load_prompt_table(
        str(data["prompts"]),
        columns={str(name): str(value) for name, value in columns.items()} if isinstance(columns, dict) else {},
        languages=[str(code) for code in asked] if isinstance(asked, list) else [],
    )
    codes = data.setdefault("languages", list(resolve_languages(",".join(table.languages))))
    if "en" not in table.languages and isinstance(directions, dict) and isinstance(codes, list) and len(codes) == 1:
        directions.setdefault("sources", codes)


def codes(text: str | None) -> list[JsonValue] | None:
    """Language codes of an option; None where it was not given."""
    from refusal_lens.languages import resolve_languages

    return None if text is None else list(resolve_languages(text))


def names(text: str | None) -> list[JsonValue] | None:
    """Names separated by commas; None where the option was not given."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def interventions_of(text: str | None) -> dict[str, JsonValue]:
    """`NAME[:OPTION=VALUE[:..]],..` as settings of `[interventions]`; none where the option was not given."""
    if text is None:
        return {}
    options: dict[str, JsonValue] = {}
    found = names(text) or []
    for place, item in enumerate(found):
        name, *settings = str(item).split(":")
        found[place] = name
        if not name or any(not setting.partition("=")[1] for setting in settings):
            raise UserError(f"--interventions {str(item)[:60]!r}: give NAME or NAME:OPTION=VALUE")
        if settings:
            options[name] = {option: _value(value) for option, _, value in (text.partition("=") for text in settings)}
    if not found:
        raise UserError("--interventions: name at least one; --baseline-only measures the untouched model alone")
    return {"names": found, **({"options": options} if options else {})}


def _value(text: str) -> JsonValue:
    """A number or truth value as one, anything else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def spec_of(model: str | None) -> str | None:
    """A folder by its absolute path, so that the run can be resumed from anywhere; any other name as it is."""
    return str(Path(model).absolute()) if model and Path(model).is_dir() else model


def text_of(path: Path | None) -> str | None:
    """A path as text."""
    return None if path is None else str(path)


def batch_size_of(text: str | None) -> Literal["auto"] | int | None:
    """A batch size as the configuration has it."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if re.fullmatch("0*[1-9][0-9]{0,8}", text) is None:
        raise UserError(f"--batch-size {text[:40]!r}: give a whole number from 1 up, or auto")
    return int(text)


def slug(spec: str) -> str:
    """A folder name for a model: letters, digits, dots and dashes of its last path part, or `testbed-NAME`."""
    name = spec if spec.startswith("testbed:") else Path(spec.rstrip("/")).name or spec
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "model"
