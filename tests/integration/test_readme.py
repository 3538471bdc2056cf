"""README's Python runs as it stands, and every page and command it names exists."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from typer.main import get_command

from refusal_lens.cli.app import app
from refusal_lens.config import DirectionConfig

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.search(r"<!-- readme-test -->\n```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    # The audit's directions rest on fewer prompts than a user's: its answers are not asked for here.
    monkeypatch.setattr("refusal_lens.api.DirectionConfig", partial(DirectionConfig, n_train=16, n_val=8, discovery=8))
    names: dict[str, object] = {}
    exec(compile(code.group(1), "README.md", "exec"), names)
    refused, answered, first_rate = capsys.readouterr().out.strip().splitlines()
    assert refused != answered, "ablation changes what the model says"
    assert "'intervention': 'baseline'" in first_rate


def test_every_page_it_links_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_every_command_it_names_exists() -> None:
    commands = set(get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]
    for name in re.findall(r"^refusal-lens ([a-z][a-z0-9-]*)", README, re.MULTILINE):
        assert name in commands, name
