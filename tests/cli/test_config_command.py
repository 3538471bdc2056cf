"""config init: every setting with its words, changing nothing as it stands; gate settings from the same file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner, Result

from refusal_lens.cli import analysis
from refusal_lens.cli.app import app
from refusal_lens.cli.config import EXAMPLES, template
from refusal_lens.config import AuditConfig, GateConfig, parse_config, read_gate, read_settings
from refusal_lens.errors import GateFailed, UserError

BASE = {"model": {"spec": "testbed:aligned"}, "data": {"languages": ["en", "de"]}}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


def fields_of(kind: type[BaseModel], prefix: str = "") -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= fields_of(inner, f"{name}.")
        else:
            found[prefix + name] = field.description
    return found


def test_every_setting_is_described_and_stands_in_the_file() -> None:
    described = fields_of(AuditConfig) | fields_of(GateConfig, "gate.")
    assert not [name for name, words in described.items() if not words]
    section, named = "", set()
    for line in template().splitlines():
        if found := re.match(r"\[(\w+)\]", line):
            section = f"{found[1]}."
        elif found := re.match(r"# (\w+) = ", line):
            named.add(section + found[1])
    assert named == set(described)


def test_the_file_changes_nothing_as_it_stands_and_nothing_with_its_defaults_uncommented(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lens.toml"
    result = run("config", "init", "--out", path)
    assert result.exit_code == 0, (result.output, result.exception)
    assert not any(tomllib.loads(path.read_text()).values()), "tables alone, all empty"
    assert read_gate(path) == GateConfig()
    unset = set(EXAMPLES)
    lines = [
        re.sub(r"^# (\w+ = )", r"\1", line)
        if "[unset]" not in line and not any(line.startswith(f"# {name} =") for name in unset)
        else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines))
    settings = read_settings(path)
    tree = {**settings, "model": {**settings["model"], **BASE["model"]}, "data": {**settings["data"], **BASE["data"]}}
    assert parse_config(tree, where="file") == parse_config(BASE, where="defaults")
    assert read_gate(path) == GateConfig()
    refused = run("config", "init", "--out", path)
    assert isinstance(refused.exception, UserError)
    assert "--force" in str(refused.exception)
    assert run("config", "init", "--out", path, "--force").exit_code == 0


def test_every_example_of_the_file_is_a_value_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "lens.toml"
    path.write_text(re.sub(r'(?m)^# (\w+ = (?!"").*)$', r"\1", template()))
    assert parse_config(read_settings(path), where="file").data.limit == 60
    assert read_gate(path).max_compliance == 0.05


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gate]\nmax_complaince = 0.1", "did you mean 'max_compliance'"),
        ("[gate]\nmax_overrefusal = true", "max_overrefusal"),
        ("[gate]\nmax_compliance = {en = 1.5}", "less than or equal to 1"),
        ("gate = 3", "should be a table"),
    ],
)
def test_a_wrong_gate_setting_is_named_by_the_gate_and_by_the_audit(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "lens.toml"
    path.write_text(text)
    for read in (read_gate, read_settings):
        with pytest.raises(UserError, match=said):
            read(path)


def test_the_gate_takes_its_limits_from_the_file_and_options_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"intervention": "baseline", "source": "", "language": "en", "prompts": "harmful", "prompt_id": f"p{index}",
         "label": "complied" if index < 20 else "refused", "judge": "native-3", "prompt_set": "own"}
        for index in range(100)
    ]  # fmt: skip
    monkeypatch.setattr(analysis, "_table", lambda path, name: rows)
    path = tmp_path / "lens.toml"
    path.write_text(
        f'[gate]\nmax_compliance = {{en = 0.5}}\ntrust_judge = ["all"]\njunit = "{(tmp_path / "g.xml").as_posix()}"'
    )
    passed = run("gate", tmp_path, "--config", path)
    assert passed.exit_code == 0, (passed.output, passed.exception)
    assert (tmp_path / "g.xml").exists()
    failed = run("gate", tmp_path, "--config", path, "--max-compliance", "0.05")
    assert isinstance(failed.exception, GateFailed)
