"""The sections on defences and on a monitor: read from their tables, the worst language named, nothing of them in the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from defence_folders import make_bench, make_monitor
from refusal_lens.cli.app import app
from refusal_lens.errors import DataError
from refusal_lens.report import Facts, is_current, page, read_inputs
from refusal_lens.report.defences import defence_section
from refusal_lens.report.monitoring import monitor_section
from refusal_lens.report.views import Figure, Note, Table
from refusal_lens.rundir import RunDir
from report_runs import make_run


def test_a_mean_stands_beside_its_worst_language_and_a_gap_stays_a_gap(tmp_path: Path) -> None:
    figure, table = defence_section(make_bench(tmp_path / "bench")).blocks
    assert isinstance(figure, Figure) and isinstance(table, Table)
    rows = {
        (row[0].text, row[1].text): [cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in row[2:]]
        for row in table.rows
    }
    assert rows["none", "none"][:4] == ["50 %", "90 %", "5 %", "10 %"]
    assert rows["gate<b>", "none"][:4] == ["20 %", "40 %", "20 %", "20 %"]
    worst = next(row for row in table.rows if (row[0].text, row[1].text) == ("none", "none"))
    assert worst[3].note == "Yoruba"
    assert rows["none", "none"][-1] == "2"


def test_a_folder_without_a_bench_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        defence_section(tmp_path)


def test_the_page_shows_it_escaped_and_the_run_stays_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_bundle", lambda: "window.vegaEmbed = null;")
    monkeypatch.setattr(page, "draw_figures", lambda figures: {f"{figure.name}.svg": b"<svg/>" for figure in figures})
    run = make_run(tmp_path / "run", languages=("en", "yo"), n_layers=2)
    words = ["report", str(run.root), "--defences", str(make_bench(tmp_path / "bench"))]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    text = run.report_path.read_text(encoding="utf-8")
    assert '<section id="defences">' in text
    assert "gate&lt;b&gt;" in text and "gate<b>" not in text and "\u202e" not in text
    assert not (run.root / "figures" / "pareto.svg").exists()
    assert not is_current(run.root), "a page with a bench is another page than the audit's own"


def facts_of(run: RunDir) -> Facts:
    return Facts(read_inputs(run.root))


def test_a_monitor_names_the_language_it_misses_most_in_and_claims_nothing_where_its_null_is_as_good(
    tmp_path: Path,
) -> None:
    facts = facts_of(make_run(tmp_path / "run", languages=("en", "yo"), n_layers=2))
    blocks = monitor_section(make_monitor(tmp_path / "m", ("en", "th", "yo")), facts).blocks
    said, figure, table, further = blocks
    assert (
        isinstance(said, Note)
        and isinstance(figure, Figure)
        and isinstance(table, Table)
        and isinstance(further, Table)
    )
    # misses 0, 1 and 2 of 100: mean 1 %; one of 100 flagged everywhere
    assert said.text == (
        "At the thresholds of its card it misses 2 of 100 harmful prompts in Yoruba (1\N{NO-BREAK SPACE}% on average) and"
        " flags 1 of 100 harmless prompts in every language. In English its best null ranks prompts as well as it does:"
        " nothing is claimed there. Labels were used of English alone."
    )
    assert [row[0].text for row in table.rows] == ["Yoruba", "Thai", "English"]
    assert [row[1].more for row in table.rows] == ["", "", "no claim"]
    assert further.folded and [row[1].text for row in further.rows] == ["testbed padded"] * 3
    datasets = figure.spec["datasets"]
    assert isinstance(datasets, dict) and isinstance(datasets["rows"], list)
    kinds = [row["kind"] for row in datasets["rows"] if isinstance(row, dict)]
    assert (kinds.count("curve"), kinds.count("threshold")) == (3 * 2 * 3, 3)


def test_a_monitor_of_another_model_is_said_to_be_one_and_curves_may_be_absent(tmp_path: Path) -> None:
    facts = facts_of(make_run(tmp_path / "run", languages=("en", "yo"), n_layers=2))
    made = make_monitor(tmp_path / "m", ("en",), digest="1" * 64, null="wo\u202erds", curves=False)
    other, _, absent, table, _ = monitor_section(made, facts).blocks
    assert isinstance(other, Note) and other.tone == "caution" and "another model (testbed:aligned)" in other.text
    assert isinstance(absent, Note) and "monitor evaluate" in absent.text
    assert isinstance(table, Table) and table.rows[0][2].note == "words"


def test_a_monitor_that_was_not_evaluated_is_one_message(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en", "yo"), n_layers=2)
    monitor = tmp_path / "m"
    monitor.mkdir()
    words = ["report", str(run.root), "--monitor", str(monitor), "--out", str(tmp_path / "page.html")]
    for said in ("name a folder that `monitor fit` wrote", "refusal-lens monitor evaluate"):
        failed = CliRunner().invoke(app, words).exception
        assert isinstance(failed, DataError) and said in str(failed)
        (monitor / "monitor.json").write_text("{}")
