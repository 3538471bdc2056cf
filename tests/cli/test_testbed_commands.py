"""The testbed commands as a user runs them: output, files, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from refusal_lens.cli import testbed as commands
from refusal_lens.errors import GateFailed, UserError

app = typer.Typer()
commands.register(app)


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_names_the_four_models_and_their_folders() -> None:
    rows = json.loads(_run("testbed", "list", "--json"))
    assert [row["model"] for row in rows] == [f"testbed:{n}" for n in ("universal", "aligned", "partial", "separate")]
    assert all((Path(row["folder"]) / "model.safetensors").is_file() for row in rows)
    assert [row["unaligned"] for row in rows] == ["-", "yo", "-", "-"]
    assert "testbed:aligned" in _run("testbed", "list")


def test_corpus_writes_one_file_a_language(tmp_path: Path) -> None:
    out = _run("testbed", "corpus", "--languages", "en,yo", "--out", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["en.jsonl", "yo.jsonl"]
    assert out.count(".jsonl") == 2
    row = json.loads((tmp_path / "yo.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert row["topic"] in row["help"]


@pytest.mark.parametrize("languages", ["xx", "en,xx", ","])
def test_wrong_languages_are_a_user_error(languages: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose from ar,de"):
        _run("testbed", "corpus", "--languages", languages, "--out", str(tmp_path))


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UserError, match="universal"):
        _run("testbed", "evaluate", "univresal")
    with pytest.raises(UserError, match="partial"):
        _run("testbed", "train", "partail")


def test_train_makes_base_and_model_and_reports_failed_gates(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    arguments = ["--languages", "en,de", "--aligned", "en", "--seed", "1", "--steps", "1", "--base-steps", "1"]
    with pytest.raises(GateFailed, match="base fails gate"):
        _run("testbed", "train", "partial", *arguments, "--out", str(folder))
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    assert (recipe["seed"], recipe["design"]["aligned"]) == (1, ["en"])
    assert (tmp_path / "small-base" / "model.safetensors").is_file()


def test_evaluate_prints_counts_per_language() -> None:
    arguments = ["--languages", "en,yo", "--limit", "5", "--randoms", "1", "--json"]
    found = json.loads(_run("testbed", "evaluate", "aligned", *arguments))
    assert found["harmful"]["en"]["n"] == found["harmful"]["yo"]["n"] == 5
    assert found["harmful"]["en"]["refused"] >= 4
    assert found["harmful"]["yo"]["helped"] >= 4
    assert [row["source"] for row in found["sources"]] == ["en"]
    assert len(found["random"]) == 1


@pytest.mark.parametrize("arguments", [["train", "aligned", "--steps", "3"], ["corpus"], ["evaluate", "aligned"]])
def test_without_the_laboratory_its_commands_say_where_they_are(arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commands, "LABORATORY", "no_such_laboratory")
    alone = typer.Typer()
    commands.register(alone)
    result = CliRunner().invoke(alone, ["testbed", *arguments])
    assert isinstance(result.exception, UserError)
    assert arguments[0] in str(result.exception)
    assert "checkout" in str(result.exception)
    assert [row["model"] for row in json.loads(CliRunner().invoke(alone, ["testbed", "list", "--json"]).stdout)]


def test_a_given_base_keeps_its_size(tmp_path: Path):
    base = json.loads(_run("testbed", "list", "--json"))[0]["folder"]
    with pytest.raises(UserError, match="--width and --depth"):
        _run("testbed", "train", "aligned", "--base", base, "--width", "64", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
