"""`refusal-lens report` and what an audit prints at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.cli.report import print_headline, write_report_and_headline
from refusal_lens.errors import RunError
from refusal_lens.report import page
from refusal_lens.report.views import Figure
from report_runs import make_run


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
    assert text.count(" - ") >= 14


def test_unchanged_run_keeps_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", languages=("en",), n_layers=2)
    write_report_and_headline(run.root, changed=True, reveal=False)
    before = run.report_path.stat().st_mtime_ns
    write_report_and_headline(run.root, changed=False, reveal=False)
    assert run.report_path.stat().st_mtime_ns == before
    assert capsys.readouterr().out.count("report: ") == 2
    write_report_and_headline(run.root, changed=False, reveal=True)
    assert run.report_path.stat().st_mtime_ns != before
