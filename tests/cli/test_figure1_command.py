"""figure1: the page, the SVG and the CSV from runs, with the published values of the paper."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from refusal_lens.cli.app import app
from refusal_lens.errors import LensError
from refusal_lens.measure import wilson
from refusal_lens.report import figure1 as drawing
from refusal_lens.report import page
from report_runs import make_run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart library in the page is tested with the report."""
    monkeypatch.setattr(page, "_bundle", lambda: "window.vegaEmbed = null;")


def figure1(*words: object) -> Result:
    return CliRunner().invoke(app, ["figure1", *map(str, words)])


def rows_of(out: Path) -> list[dict[str, str]]:
    with out.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_runs_and_the_paper_stand_in_page_svg_and_csv(tmp_path: Path) -> None:
    one, two = (
        make_run(tmp_path / "one", languages=("en", "de")),
        make_run(tmp_path / "two", languages=("en", "yo"), seed=3),
    )
    out = tmp_path / "out" / "f.html"
    result = figure1(one.root, two.root, "--paper", "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    assert sorted(item.name for item in out.parent.iterdir()) == ["f.csv", "f.html", "f.svg"]
    text = out.read_text(encoding="utf-8")
    assert "default-src 'none'" in text  # nothing is fetched, whatever addresses stand in the charts' schema
    assert not re.search(r"<(link|img|iframe)\b|\ssrc=", text)
    assert "f.svg, the numbers as f.csv" in text
    assert "arXiv 2505.17306" in text
    assert out.with_suffix(".svg").read_text(encoding="utf-8").startswith("<svg")
    rows = rows_of(out)
    assert {row["origin"] for row in rows} == {"one", "two", "paper"}
    assert {row["language"] for row in rows if row["origin"] == "two"} == {"en", "yo"}
    published = {
        (row["model"], row["condition"], row["language"]): (int(row["k"]), int(row["n"]), float(row["low"]))
        for row in rows
        if row["origin"] == "paper"
    }
    assert len(published) == 10 * 2 * 14
    assert published["Qwen2.5-32B", "ablated", "de"] == (
        332,
        572,
        wilson(332, 572)[0],
    )  # 58 per cent: the paper's exception


def test_a_runs_numbers_are_those_of_its_rates(tmp_path: Path) -> None:
    from refusal_lens.core.tables import RATES

    run = make_run(tmp_path / "one", languages=("en", "de", "yo"))
    out = tmp_path / "f.html"
    assert figure1(run.root, "--out", out).exit_code == 0
    wanted = {
        (row["language"], row["intervention"]): (row["k"], row["n"])
        for row in RATES.read(run.tables_dir / "rates.parquet")
        if row["prompts"] == "harmful"
        and (row["intervention"], row["source"]) in {("baseline", ""), ("ablation", "en")}
    }
    names = {"untouched": "baseline", "ablated": "ablation"}
    assert {
        (row["language"], names[row["condition"]]): (int(row["k"]), int(row["n"])) for row in rows_of(out)
    } == wanted
    assert "paper" not in out.with_suffix(".csv").read_text(encoding="utf-8")


def test_the_recorded_counts_are_the_papers(shared: Path) -> None:
    recorded = json.loads((shared / "data" / "paper" / "figure1_compliance.json").read_text(encoding="utf-8"))
    own = drawing.published()
    names = {"base": "untouched", "EN": "ablated"}
    for key, rates in recorded.items():
        model, condition = key.split("|")
        counts = own["models"][model][names[condition]]
        assert [k / 572 for k in counts] == pytest.approx(rates, abs=2e-4)  # one answer is 17e-4


@pytest.mark.parametrize(
    ("recorded", "model", "same"),
    [
        ("Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct", True),
        ("Qwen2.5-7B", "Qwen2.5-72B-Instruct", False),
        ("Llama-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct", True),
        ("Llama-3-8B", "meta-llama/Llama-3.1-8B-Instruct", False),
        ("gemma-2b-it", "google/gemma-2b-it", True),
        ("Yi-6B-Chat", "01-ai/Yi-6B-Chat", True),
    ],
)
def test_a_run_stands_beside_its_own_model(recorded: str, model: str, same: bool) -> None:
    assert drawing.same_model(recorded, model) is same


def test_what_cannot_be_drawn_is_said_and_writes_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one", languages=("en",), leave_out=("rates",))
    cases: list[tuple[tuple[object, ...], str]] = [
        ((run.root, "--out", tmp_path / "f.html"), "no judged answers"),
        ((tmp_path / "none", "--out", tmp_path / "f.html"), "none"),
        (("--out", tmp_path / "f.html"), "--paper"),
        ((run.root, run.root, "--out", tmp_path / "f.html"), "named twice"),
        ((run.root, "--out", tmp_path / "f.svg"), "name it f.html"),
    ]
    for words, said in cases:
        error = figure1(*words).exception
        assert isinstance(error, LensError)
        assert error.exit_code == 2
        assert said in str(error)
    assert [item.name for item in tmp_path.iterdir()] == ["one"]


def test_the_paper_alone_and_a_baseline_alone(tmp_path: Path) -> None:
    assert figure1("--paper", "--out", tmp_path / "p.html").exit_code == 0
    run = make_run(tmp_path / "one", languages=("en", "de"), sources=(), valid=False)
    assert figure1(run.root, "--out", tmp_path / "b.html").exit_code == 0
    assert {row["condition"] for row in rows_of(tmp_path / "b.html")} == {"untouched"}
