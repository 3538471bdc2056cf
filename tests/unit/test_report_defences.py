"""The section on defences: read from a bench's table, the worst language beside every mean, nothing of it in the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from refusal_lens.cli.app import app
from refusal_lens.core.bench_tables import BENCH_SELECTIVITY
from refusal_lens.errors import DataError
from refusal_lens.report import is_current, page
from refusal_lens.report.defences import defence_section
from refusal_lens.report.views import Figure, Table
from report_runs import make_run


def bench(root: Path) -> Path:
    """Two defences under two attackers in two languages; one cell was not judged."""
    made = {
        ("none", "none", "en"): (0.1, 0.0), ("none", "none", "yo"): (0.9, 0.1),
        ("none", "ablate-english", "en"): (1.0, 0.0), ("none", "ablate-english", "yo"): (1.0, 0.0),
        ("gate\u202e<b>", "none", "en"): (0.0, 0.2), ("gate\u202e<b>", "none", "yo"): (0.4, None),
    }  # fmt: skip
    rows = [
        {
            "defence": defence, "attack": attack, "language": code, "harmful_refused": 1 - success,
            "attack_success": success, "overrefusal": over, "n_harmful": 20, "n_harmless": 20, "unscored": 1,
            "selectivity": None if over is None else 1 - success - over, "low": None, "high": None,
        }
        for (defence, attack, code), (success, over) in made.items()
    ]  # fmt: skip
    (root / "tables").mkdir(parents=True)
    BENCH_SELECTIVITY.write(root / "tables", rows)
    return root


def test_a_mean_stands_beside_its_worst_language_and_a_gap_stays_a_gap(tmp_path: Path) -> None:
    figure, table = defence_section(bench(tmp_path / "bench")).blocks
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
    words = ["report", str(run.root), "--defences", str(bench(tmp_path / "bench"))]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    text = run.report_path.read_text(encoding="utf-8")
    assert '<section id="defences">' in text
    assert "gate&lt;b&gt;" in text and "gate<b>" not in text and "\u202e" not in text
    assert not (run.root / "figures" / "pareto.svg").exists()
    assert not is_current(run.root), "a page with a bench is another page than the audit's own"
