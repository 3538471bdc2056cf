"""extract, score and select as a user runs them: files, exit codes, one-line messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from refusal_lens.cli.app import main
from refusal_lens.directions import Candidates
from refusal_lens.errors import DataError
from tiny_models import build


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["refusal-lens", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
        sys.exit(0)
    code = ended.value.code
    said = capsys.readouterr()
    return code if isinstance(code, int) else 0, said.out, said.err


def scores_file(folder: Path, *, kl: float) -> Path:
    rows = [
        {"position": -1, "layer": layer, "refusal_score": -layer, "steering_score": 1.0, "kl_div_score": kl}
        for layer in (1, 2, 3)
    ]
    file = folder / "scores.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def test_select_prints_the_choice_or_exits_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = scores_file(tmp_path, kl=0.15)
    code, out, _ = run(monkeypatch, capsys, "select", file, "--n-layers", 10, "--rule", "paper")
    chosen = json.loads(out)
    assert (code, chosen["position"], chosen["layer"]) == (0, -1, 3)
    code, out, err = run(monkeypatch, capsys, "select", file, "--n-layers", 10, "--rule", "arditi")
    assert (code, out) == (3, "")
    assert "KL > 0.1: 3" in err
    code, out, _ = run(
        monkeypatch, capsys, "select", file, "--n-layers", 10, "--rule", "arditi", "--kl-threshold", "0.15"
    )
    assert (code, json.loads(out)["layer"]) == (0, 3)
    code, _, err = run(monkeypatch, capsys, "select", file, "--n-layers", 3)
    assert code == 2
    assert "--n-layers 3 is too small" in err
    code, _, err = run(monkeypatch, capsys, "select", tmp_path / "none.json", "--n-layers", 3)
    assert code == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_extract_score_select_on_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build("llama", tmp_path / "model")
    for name, verb in (("harmful", "hide"), ("harmless", "paint")):
        prompts = [f"How do I {verb} {thing}?" for thing in ("a bike lock", "the old gate", "it", "my letter box")]
        (tmp_path / f"{name}.json").write_text(json.dumps(prompts), encoding="utf-8")
    files = ("--harmful", tmp_path / "harmful.json", "--harmless", tmp_path / "harmless.json")
    where = tmp_path / "candidates"
    code, _, _ = run(monkeypatch, capsys, "extract", tmp_path / "model", *files, "--out", where)
    facts = json.loads((where / "candidates.json").read_text(encoding="utf-8"))
    tensor = load_file(where / "candidates.safetensors")["candidates"]
    assert code == 0
    assert tensor.shape == (len(facts["positions"]), 3, 32)
    assert (facts["n_harmful"], facts["n_harmless"]) == (4, 4)
    out = tmp_path / "scores.json"
    common = ("score", tmp_path / "model", "--candidates", where, *files, "--out", out, "--refusal-tokens")
    code, _, _ = run(monkeypatch, capsys, *common, "40,41")
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert code == 0
    assert [(row["position"], row["layer"]) for row in rows] == [
        (p, layer) for p in facts["positions"] for layer in range(3)
    ]
    assert all(list(row) == ["position", "layer", "refusal_score", "steering_score", "kl_div_score"] for row in rows)
    code, _, err = run(monkeypatch, capsys, *common, "999999")
    assert code == 2
    assert "do not exist" in err
    code, _, err = run(monkeypatch, capsys, *common, "one")
    assert code == 2
    assert "expected token ids" in err


def test_what_is_wrong_with_the_input_is_said_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    harmful, harmless = tmp_path / "a.json", tmp_path / "b.json"
    harmful.write_text('["How do I open a bike lock?", "Name a colour."]', encoding="utf-8")
    harmless.write_text('["Name a colour."]', encoding="utf-8")
    files = ("--harmful", harmful, "--harmless", harmless)
    code, _, err = run(monkeypatch, capsys, "extract", "no-such", *files, "--out", harmful)
    assert (code, "is a file, not a folder" in err) == (2, True)
    code, _, err = run(monkeypatch, capsys, "extract", "no-such", *files, "--out", tmp_path / "out")
    assert (code, "'Name a colour.'" in err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_prompts_beyond_the_context_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build("llama", tmp_path / "model")
    harmful, harmless = tmp_path / "a.json", tmp_path / "b.json"
    harmful.write_text(json.dumps(["How do I open a bike lock?", "word " * 20_000]), encoding="utf-8")
    harmless.write_text('["Name a colour."]', encoding="utf-8")
    files = ("--harmful", harmful, "--harmless", harmless, "--out", tmp_path / "out")
    code, _, err = run(monkeypatch, capsys, "extract", model, *files)
    assert (code, "1 of 2 prompts left out" in err, "row 2" in err) == (0, True, True)
    assert json.loads((tmp_path / "out" / "candidates.json").read_text())["n_harmful"] == 1
    harmful.write_text(json.dumps(["word " * 20_000]), encoding="utf-8")
    code, _, err = run(monkeypatch, capsys, "extract", model, *files)
    assert (code, "no prompt fits" in err) == (2, True)


def test_tables_are_read_by_column_and_what_was_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build("llama", tmp_path / "model")
    harmful, harmless = tmp_path / "a.csv", tmp_path / "b.csv"
    harmful.write_text('goal,target\nHow do I open a lock?,"Sure, here"\n"Hide it, ""now""",Sure\n', encoding="utf-8")
    harmless.write_text("instruction;kind\nPaint a shed, please;x\n", encoding="utf-8")
    for out, more in (("csv", ()), ("named", ("--column", "goal"))):
        where = ("--harmful", harmful, "--harmless", harmless, "--out", tmp_path / out, *more)
        code, _, err = run(monkeypatch, capsys, "extract", model, *where)
        assert code == 0
        assert "2 prompts read, the first: 'How do I open a lock?' (column 'goal')" in err
        assert "1 prompt read, the first: 'Paint a shed, please' (column 'instruction')" in err
    for name, texts in (("a", ["How do I open a lock?", 'Hide it, "now"']), ("b", ["Paint a shed, please"])):
        (tmp_path / f"{name}.json").write_text(json.dumps(texts), encoding="utf-8")
    where = ("--harmful", tmp_path / "a.json", "--harmless", tmp_path / "b.json", "--out", tmp_path / "json")
    assert run(monkeypatch, capsys, "extract", model, *where)[0] == 0
    read = [load_file(tmp_path / out / "candidates.safetensors")["candidates"] for out in ("csv", "named", "json")]
    assert torch.equal(read[0], read[2])
    assert torch.equal(read[1], read[2])


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("a.csv", "question", "no column 'question'; columns there: 'topic', 'text'"),
        ("a.txt", "question", "no column 'question'; columns there: none"),
        ("a.xlsx", None, "cannot read .xlsx files"),
        ("none.csv", None, "no such file"),
    ],
)
def test_prompt_files_that_cannot_be_read_exit_2_before_a_model_is_loaded(
    name: str, column: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for file, content in (
        ("a.csv", "topic,text\nx,y\n"),
        ("a.txt", "x\n"),
        ("a.xlsx", "x"),
        ("b.txt", "Name a colour."),
    ):
        (tmp_path / file).write_text(content, encoding="utf-8")
    where = ("--harmful", tmp_path / name, "--harmless", tmp_path / "b.txt", "--out", tmp_path / "out")
    code, out, err = run(
        monkeypatch, capsys, "extract", "no-such", *where, *(() if column is None else ("--column", column))
    )
    assert (code, out, message in err, len(err.strip().splitlines())) == (2, "", True, 1)


@pytest.mark.parametrize(
    ("facts", "message"),
    [({"positions": "x"}, "wrong one"), ({"positions": [0, 1]}, "negative"), ({"n_harmful": None}, "wrong one")],
)
def test_damaged_candidate_facts_are_named(facts: dict[str, object], message: str, tmp_path: Path) -> None:
    Candidates(torch.ones(2, 3, 4), (-2, -1), 1, 1).save(tmp_path)
    file = tmp_path / "candidates.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))
    with pytest.raises(DataError, match=message):
        Candidates.load(tmp_path)
