"""`refusal-lens doctor`: the contract's keys, exit codes, and messages without tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_models
from command_line import run as _refusal_lens

KEYS = {"ok", "architecture", "n_layers", "d_model", "layout", "folding", "residual_leak"}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _refusal_lens("doctor", *arguments)


def _process(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from refusal_lens.cli.app import main; sys.argv[0] = 'refusal-lens'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("olmo2", tmp_path_factory.mktemp("models") / "olmo2")


def test_json_is_one_clean_object(folder: Path) -> None:
    """As a process: nothing that a library prints by itself stands beside it."""
    done = _process("doctor", str(folder), "--json")
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


def _not_causal(folder: Path) -> str:
    config = json.loads((tiny_models.build("llama", folder) / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "is_causal": False}), encoding="utf-8")
    return str(folder)


def test_extract_and_score_stop_at_a_model_that_fails_its_checks_and_mark_what_is_accepted(tmp_path: Path) -> None:
    model = _not_causal(tmp_path / "model")
    for name, texts in (("harmful", ["Tell me how", "How do I"]), ("harmless", ["Write a poem", "What is seven?"])):
        (tmp_path / f"{name}.json").write_text(json.dumps(texts), encoding="utf-8")
    prompts = ["--harmful", str(tmp_path / "harmful.json"), "--harmless", str(tmp_path / "harmless.json")]
    extract = ["extract", model, *prompts, "--out", str(tmp_path / "candidates")]
    score = ["score", model, *prompts, "--candidates", str(tmp_path / "candidates"), "--refusal-tokens", "5,6"]
    score += ["--out", str(tmp_path / "scores.json")]
    doctor = _refusal_lens("doctor", model)
    assert doctor.returncode == 2
    assert "no position sees later tokens" in doctor.stderr

    stopped = _refusal_lens(*extract)
    assert stopped.returncode == 2
    assert "no position sees later tokens" in stopped.stderr
    assert "--accept-inexact" in stopped.stderr
    assert not (tmp_path / "candidates").exists()

    accepted = _refusal_lens(*extract, "--accept-inexact")
    assert accepted.returncode == 0, accepted.stderr
    assert "later tokens" in json.loads(accepted.stdout)["inexact"]
    assert json.loads(accepted.stdout)["checks"]["causality_error"] > 1e-3
    assert "later tokens" in json.loads((tmp_path / "candidates" / "candidates.json").read_text())["inexact"]

    assert _refusal_lens(*score).returncode == 2
    scored = _refusal_lens(*score, "--accept-inexact")
    assert scored.returncode == 0, scored.stderr
    rows = json.loads((tmp_path / "scores.json").read_text())
    assert rows
    assert all("later tokens" in row["inexact"] for row in rows), "every number is marked"
