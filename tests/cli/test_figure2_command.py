"""figure2: the page, the SVG and the CSV from runs with directions of several languages."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from refusal_lens import open_run
from refusal_lens.cli.app import app
from refusal_lens.errors import LensError
from refusal_lens.report import page
from report_runs import make_run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart library in the page is tested with the report."""
    monkeypatch.setattr(page, "_bundle", lambda: "window.vegaEmbed = null;")


def figure2(*words: object) -> Result:
    return CliRunner().invoke(app, ["figure2", *map(str, words)])


def test_every_source_stands_beside_the_untouched_model_with_the_runs_own_numbers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en", "de", "zh"), sources=("de", "zh"))
    out = tmp_path / "f.html"
    result = figure2(run.root, "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    with out.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    wanted = {
        (row["source"], row["language"]): (row["k"], row["n"])
        for row in open_run(run.root).rates.to_pylist()
        if row["prompts"] == "harmful"
        and (row["intervention"], row["source"][:6]) not in {("ablation", "random")}
        and row["intervention"] != "addition"
    }
    assert {(row["source"], row["language"]): (int(row["k"]), int(row["n"])) for row in rows} == wanted
    assert len(wanted) == 9
    text = out.read_text(encoding="utf-8")
    assert "German ablated" in text
    assert "Chinese ablated" in text
    assert out.with_suffix(".svg").read_text(encoding="utf-8").startswith("<svg")


def test_sources_choose_and_english_alone_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en", "de"), sources=("en", "de"))
    out = tmp_path / "f.html"
    assert figure2(run.root, "--sources", "de", "--out", out).exit_code == 0
    assert {line.split(",")[2] for line in out.with_suffix(".csv").read_text().splitlines()[1:]} == {"", "de"}
    alone = make_run(tmp_path / "alone", languages=("en", "de"))
    assert figure2(alone.root, "--out", out).exit_code == 0
    assert "no direction of another language than English" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [(("RUN", "RUN"), "named twice"), (("RUN", "--sources", "th"), "the runs have en"), (("nowhere",), "no run here")],
)
def test_what_cannot_be_drawn_is_one_message(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    run = make_run(tmp_path / "run", languages=("en",))
    given = [str(run.root) if word == "RUN" else word for word in words]
    error = figure2(*given, "--out", tmp_path / "f.html").exception
    assert isinstance(error, LensError)
    assert error.exit_code == 2
    assert said in str(error)
