"""`refusal-lens report` and what an audit prints at its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.cli.report import print_headline, write_report_and_headline
from refusal_lens.errors import RunError
from refusal_lens.report import page
from refusal_lens.report.views import Figure
from refusal_lens.rundir import RunDir
from report_runs import make_run, write_rows


def no_figures(figures: Sequence[Figure]) -> dict[str, bytes]:
    return {}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what is slow and tested in test_report_browser: the chart library and the figure files."""
    monkeypatch.setattr(page, "_bundle", lambda: "window.vegaEmbed = null;")
    monkeypatch.setattr(page, "draw_figures", no_figures)


def test_prints_the_path_alone_on_stdout(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en", "de"), n_layers=2)
    result = CliRunner().invoke(app, ["report", str(run.root)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(run.report_path)
    other = tmp_path / "other.html"
    assert CliRunner().invoke(app, ["report", str(run.root), "--out", str(other)]).stdout.strip() == str(other)
    assert other.read_bytes() == run.report_path.read_bytes()


def test_no_run_is_the_users_mistake(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(result.exception, RunError)
    assert result.exception.exit_code == 2


def test_help_teaches_with_an_example() -> None:
    result = CliRunner().invoke(app, ["report", "--help"])
    assert "Example: refusal-lens report runs/qwen" in result.output


def test_headline_in_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run")
    print_headline(run.root)
    text = capsys.readouterr().out
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert len([name for name in ("Arabic", "Yoruba", "Chinese", "Korean") if name in lines]) == 4
    assert lines["Yoruba"].count("[") == 4
    assert "verdict: universal." in text
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_headline_of_a_run_without_direction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_headline(make_run(tmp_path / "run", valid=False).root)
    text = capsys.readouterr().out
    assert "No valid refusal direction was found from English" in text
    assert text.count("baseline") == 2, "columns that nothing stands in are left out, and what explains them"
    assert "ablated " not in text.split("harmful: percent")[0] and "mean over the random directions" not in text


def test_unchanged_run_keeps_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", languages=("en",), n_layers=2)
    write_report_and_headline(run.root, changed=True, reveal=False)
    before = run.report_path.stat().st_mtime_ns
    write_report_and_headline(run.root, changed=False, reveal=False)
    assert run.report_path.stat().st_mtime_ns == before
    assert capsys.readouterr().out.count("report: ") == 2
    write_report_and_headline(run.root, changed=False, reveal=True)
    assert run.report_path.stat().st_mtime_ns != before


def paper_cells(page_text: str, caption: str) -> dict[str, list[str]]:
    """Rows of the table with this caption: first cell, then the others' first words."""
    table = page_text[page_text.index(f'<caption class="heard">{caption}') :].partition("</table>")[0]
    found: dict[str, list[str]] = {}
    for row in table.split("<tr>")[1:]:
        cells = [part.partition("</bdi>")[0] for part in row.split("<bdi>")[1:]]
        if cells:
            found[cells[0]] = [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in cells[1:]]
    return found


def test_with_paper_puts_the_recorded_values_beside_the_runs(tmp_path: Path) -> None:
    """Qwen2.5-7B in Yoruba: the published counts of 572 divided by hand; a language that the run lacks stays a dash."""
    made = make_run(tmp_path / "made", languages=("en", "yo"), n_layers=2)
    header = {name: value for name, value in made.header.items() if name not in ("seal", "schema_version")}
    header["config"] = {**header["config"], "model": {"spec": "Qwen/Qwen2.5-7B-Instruct"}}
    run = RunDir.create(tmp_path / "run", header=header)
    run.tables_dir.mkdir(exist_ok=True)
    (run.tables_dir / "rates.parquet").write_bytes((made.tables_dir / "rates.parquet").read_bytes())
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(run.root), "--with-paper", "--out", str(out)])
    assert result.exit_code == 0, result.output
    text = out.read_text(encoding="utf-8")
    rows = paper_cells(text, "Harmful prompts answered, in this run and in the paper")
    recorded = json.loads((Path(page.__file__).parent / "assets" / "figure1.json").read_text())
    place = recorded["languages"].index("yo")
    counts = recorded["models"]["Qwen2.5-7B"]
    assert rows["Yoruba"][1] == f"{100 * counts['untouched'][place] / 572:.0f} %"
    assert rows["Yoruba"][3] == f"{100 * counts['ablated'][place] / 572:.0f} %"
    assert rows["Thai"][0] == rows["Thai"][2] == "–"
    assert rows["Thai"][1] != "–"
    models = paper_cells(text, "Harmful prompts answered, this run and the paper’s ten models".replace("’", "&#39;"))
    assert len(models) == 11
    without = tmp_path / "without.html"
    CliRunner().invoke(app, ["report", str(run.root), "--out", str(without)])
    assert "Beside the paper" not in without.read_text(encoding="utf-8")


def test_with_paper_beside_two_runs_of_no_published_model(tmp_path: Path) -> None:
    one, two = (make_run(tmp_path / name, languages=("en", "yo"), n_layers=2, seed=at) for at, name in enumerate("ab"))
    for run in (one, two):
        write_rows(run, "verdicts", [])
    out = tmp_path / "page.html"
    words = ["report", str(one.root), str(two.root), "--with-paper", "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    text = out.read_text(encoding="utf-8")
    assert '<section id="paper-0">' in text and '<section id="paper-1">' in text
    assert "none of the paper&#39;s ten models" in text
