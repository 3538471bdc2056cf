"""Commands defend and defence-bench: what a user may get wrong, and one small bench from end to end."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.core.bench_tables import BENCH, BENCH_PAIRED
from refusal_lens.defences import Limits
from refusal_lens.errors import RunError, UserError

RUN = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["defend", "testbed:aligned", "--method", "wall"], "choose one of"),
        (["defend", "testbed:aligned", "--method", "refat"], "--out"),
        (["defence-bench", "testbed:aligned", "--methods", "wall", "--out", "x"], "choose all"),
        (["defence-bench", "testbed:aligned", "--attacks", "none,wall", "--out", "x"], "role-play"),
    ],
)
def test_what_a_user_gets_wrong_is_said(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    found = RUN.invoke(app, arguments)
    assert isinstance(found.exception, UserError)
    assert says in str(found.exception)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_small_bench_is_measured_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # How well the defence is chosen is not asked here: four prompts and eight tokens a try.
    monkeypatch.setattr("refusal_lens.defences.Limits", partial(Limits, prompts=4, tokens=8))
    command = [
        "defence-bench", "testbed:aligned", "--methods", "conditional", "--languages", "en,yo", "--n", "3",
        "--max-new-tokens", "16", "--quick", "--out", str(tmp_path / "run"), "--format", "json",
    ]  # fmt: skip
    found = RUN.invoke(app, command, catch_exceptions=False)
    rows = json.loads(found.stdout)
    assert {row["defence"] for row in rows} == {"undefended", "conditional", "conditional:random-0"}
    assert {row["attack"] for row in rows if row["defence"] == "conditional"} == {
        "none", "other-language", "code-switch", "role-play", "ablate-english", "ablate-own", "ablate-reextracted",
        "folded", "removed",
    }  # fmt: skip
    assert BENCH.read(tmp_path / "run" / "tables" / "bench.parquet") == rows
    assert BENCH_PAIRED.read(tmp_path / "run" / "tables" / "bench_paired.parquet")
    plain = {(row["attack"], row["language"], row["prompts"]): row for row in rows if row["defence"] == "undefended"}
    assert plain["none", "en", "harmful"]["rate"] == 1.0 and plain["ablate-english", "en", "harmful"]["rate"] < 0.5
    assert plain["none", "en", "harmless"]["kl"] == pytest.approx(0, abs=1e-6)
    removed = next(row for row in rows if (row["defence"], row["attack"]) == ("conditional", "removed"))
    assert removed["k"] == plain["folded", removed["language"], removed["prompts"]]["k"]
    assert {file.name for file in (tmp_path / "run" / "figures").iterdir()} == {"pareto.svg", "pareto.html"}

    cell = tmp_path / "run" / "cells" / "undefended.none.json"
    content = json.loads(cell.read_text())
    assert not any("text" in key for key in content)  # verdicts, never answers
    content["labels"] = [[*key[:3], "unscored"] for key in content["labels"]]
    cell.write_text(json.dumps(content))
    again = json.loads(RUN.invoke(app, command, catch_exceptions=False).stdout)  # a finished cell is not computed again
    assert all(row["n"] == 0 for row in again if (row["defence"], row["attack"]) == ("undefended", "none"))
    other = RUN.invoke(app, [*command, "--seed", "1"])
    assert isinstance(other.exception, RunError)
