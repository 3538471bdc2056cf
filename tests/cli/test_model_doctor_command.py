"""`refusal-lens doctor`: the contract's keys, exit codes, and messages without tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_models

KEYS = {"ok", "architecture", "n_layers", "d_model", "layout", "folding", "residual_leak"}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from refusal_lens.cli.app import main; sys.argv[0] = 'refusal-lens'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "doctor", *arguments], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("olmo2", tmp_path_factory.mktemp("models") / "olmo2")


def test_json_is_one_clean_object(folder: Path) -> None:
    done = _run(str(folder), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) >= KEYS
    assert (found["ok"], found["n_layers"], found["d_model"], found["folding"]) == (
        True,
        tiny_models.LAYERS,
        tiny_models.WIDTH,
        "hooks",
    )
    assert found["residual_leak"] <= 1e-5


def test_the_table_names_every_check(folder: Path) -> None:
    done = _run(str(folder))
    assert done.returncode == 0, done.stderr
    for words in ("hidden state", "padding", "addition", "reader", "round trip"):
        assert words in done.stdout


@pytest.mark.parametrize("as_json", [False, True])
def test_an_unusable_model_exits_2_with_one_line(tmp_path: Path, as_json: bool) -> None:
    base = tiny_models.build("llama", tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    done = _run(str(base), *(["--json"] if as_json else []))
    assert done.returncode == 2
    assert "--chat-template FILE" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "" or json.loads(done.stdout)["ok"] is False
