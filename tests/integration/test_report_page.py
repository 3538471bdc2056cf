"""The page: built from full, partial, damaged and hostile runs."""

from __future__ import annotations

import html
import json
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from refusal_lens.core.tables import RATES
from refusal_lens.core.tables import TABLES as KNOWN
from refusal_lens.errors import RunError
from refusal_lens.languages import get_language
from refusal_lens.report import build_report, is_current, page, read_inputs
from refusal_lens.report.drilldown import prompts_table
from refusal_lens.report.facts import Facts, language_name
from refusal_lens.report.inputs import TABLES
from refusal_lens.report.views import Figure
from report_runs import LANGUAGES, make_run, write_completions, write_rows

ATTACK = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\u202e\x1b[31m"


def no_figures(figures: Sequence[Figure]) -> dict[str, bytes]:
    return {}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what is slow and tested in test_report_browser: the chart library and the figure files."""
    monkeypatch.setattr(page, "_bundle", lambda: "window.vegaEmbed = null;")
    monkeypatch.setattr(page, "draw_figures", no_figures)


def html_of(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\xa0", " ")


def charts_of(text: str) -> dict[str, dict[str, object]]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.S)
    assert found is not None
    return json.loads(found.group(1))["figures"]


@pytest.mark.usefixtures("quick")
def test_full_run_has_every_section_figure_and_caption(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sources=("en", "de"))
    text = html_of(build_report(run.root))
    expected = {
        "untouched",
        "rates-harmful",
        "rates-harmless",
        "content",
        "selection",
        "transfer-ablation",
        "transfer-addition",
    }
    expected |= {"cosines", "cosines-by-layer", "projection", "leak", "separation"}
    assert set(charts_of(text)) == expected
    assert text.count("<figcaption><b>How to read it.</b>") == len(expected)
    assert len(re.findall(r'role="img" aria-label="[^"]{20,}"', text)) == len(expected)
    for name in (
        "untouched",
        "judge",
        "asked",
        "languages",
        "verdict",
        "content",
        "selection",
        "transfer",
        "geometry",
        "leaks",
        "tokens",
        "dropped",
        "limits",
    ):
        assert f'<section id="{name}">' in text
    assert "Not in this run" not in text
    assert 'id="texts"' not in text
    order = re.findall(r'<section id="([a-z]+)"', text)
    assert order[:4] == ["headline", "untouched", "judge", "verdict"]
    assert order.index("verdict") < order.index("geometry") < order.index("asked")
    for code in LANGUAGES:
        assert f"<bdi>{language_name(code)}</bdi><small>{get_language(code).tier} resources" in text


@pytest.mark.usefixtures("quick")
def test_headline_cells_carry_counts_interval_and_unscored(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en",))
    row = next(
        row
        for row in read_inputs(run.root).rows(RATES)
        if (row["intervention"], row["source"], row["prompts"]) == ("ablation", "en", "harmful")
    )
    text = html_of(build_report(run.root))
    low, high = (f"{100 * float(str(row[name])):.0f}" for name in ("low", "high"))
    assert f"<small>{row['k']}/{row['n']} [{low}, {high}]</small>" in text
    assert f"<small>{row['unscored']} unscored" in text


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "gone", [("rates",), ("selection",), ("candidates", "transfer"), tuple(TABLES)[::2], tuple(TABLES)[1::2]]
)
def test_absent_tables_are_named_and_the_rest_is_shown(tmp_path: Path, gone: tuple[str, ...]) -> None:
    run = make_run(tmp_path / "run", languages=("en", "yo"), leave_out=(*gone, "geometry"), n_layers=3)
    page_text = html.unescape(html_of(build_report(run.root)))
    for table in TABLES:
        assert (f"tables/{table}.parquet" in page_text or TABLES[table] in page_text) == (
            table in gone and table != "missing"
        )


@pytest.mark.usefixtures("quick")
def test_run_without_any_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", leave_out=(*TABLES, "verdict", "geometry"))
    text = html_of(build_report(run.root))
    assert "Ablation was not measured" in text or "No valid refusal direction" in text
    assert charts_of(text) == {}
    assert text.count("Not in this run") >= 6


@pytest.mark.usefixtures("quick")
def test_tables_without_rows_or_with_nulls_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en",), leave_out=())
    for name in TABLES:
        columns = {key: None for row in read_inputs(run.root).rows(KNOWN[name])[:1] for key in row}
        write_rows(run, name, [columns] if columns else [])
    assert "<h1>" in html_of(build_report(run.root))


@pytest.mark.usefixtures("quick")
def test_damaged_tables_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en",))
    (run.tables_dir / "damage.parquet").write_bytes(b"PAR1 not really")
    (run.tables_dir / "verdict.json").write_text("{")
    text = html_of(build_report(run.root))
    assert "tables/damage.parquet cannot be read" in text
    assert "tables/verdict.json cannot be read" in text
    assert 'id="chart-rates-harmful"' in text


@pytest.mark.usefixtures("quick")
def test_refusals_in_thoughts_stand_beside_those_in_answers(tmp_path: Path) -> None:
    """Only where the model thought: a run without such a table, or with an empty one, says nothing about thoughts."""
    run = make_run(tmp_path / "run", languages=("en", "yo"))
    caption = "Refusal in thoughts against refusal in answers"
    assert caption not in html_of(build_report(run.root))
    counts = {"n": 31, "both": 3, "thoughts_only": 17, "answer_only": 2, "neither": 9, "unjudged": 41}
    row = {"intervention": "baseline", "source": "", "language": "yo", "prompts": "harmful", **counts}
    write_rows(run, "thoughts", [row])
    text = html_of(build_report(run.root))
    table = re.sub(r"<[^>]+>", " ", text[text.index(caption) - 3000 : text.index(caption) + 3000])
    assert caption in text and all(f" {count} " in table for count in counts.values())


@pytest.mark.usefixtures("quick")
def test_no_valid_direction_names_the_best_candidate_and_its_fate(tmp_path: Path) -> None:
    text = html_of(build_report(make_run(tmp_path / "run", valid=False).root))
    assert "No valid direction from English: Every candidate was dropped." in text
    assert "The best candidate it would have had: position" in text
    assert "dropped because:" in text
    assert "without a valid direction there is nothing to ablate or add" in text
    assert "transfer-ablation" not in charts_of(text)


@pytest.mark.usefixtures("quick")
def test_hostile_text_is_inert(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run",
        languages=("en",),
        verdict={"verdict": ATTACK, "languages": {ATTACK: {"status": ATTACK}}, "reasons": [ATTACK]},
    )
    for name in (
        "refusal_tokens",
        "selection",
        "candidates",
        "missing",
        "unscored",
        "transfer",
        "separation",
        "cosines",
        "projection",
    ):
        rows = [dict(row) for row in read_inputs(run.root).rows(KNOWN[name])]
        for row in rows:
            for key, value in row.items():
                if isinstance(value, str) and key not in {"status", "intervention", "harm"}:
                    row[key] = value + ATTACK
        write_rows(run, name, rows)
    text = html_of(build_report(run.root))
    assert text.count("<script") == 3
    assert "<img" not in text
    assert "onerror=window.pwned=1>" not in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", text)


@pytest.mark.usefixtures("quick")
def test_texts_only_when_revealed_and_then_escaped_and_private(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en", "ar"))
    write_completions(run, language="ar", text=f"a secret answer {ATTACK}", prompt="a secret question")
    plain = html_of(build_report(run.root))
    assert "a secret" not in plain
    shown = build_report(run.root, reveal=True)
    text = html_of(shown)
    assert "a secret answer &lt;/script&gt;&lt;script&gt;" in text
    assert "a secret question" in text
    assert 'dir="rtl"' in text
    assert text.count("<script") == 3
    assert stat.S_IMODE(shown.stat().st_mode) == 0o600
    build_report(run.root)
    assert stat.S_IMODE(shown.stat().st_mode) == 0o644


@pytest.mark.usefixtures("quick")
def test_same_run_same_bytes_and_currency_is_known(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en", "de"), n_layers=3)
    assert not is_current(run.root)
    first = build_report(run.root).read_bytes()
    assert is_current(run.root)
    assert not is_current(run.root, reveal=True)
    assert build_report(run.root).read_bytes() == first
    rows = [dict(row) for row in read_inputs(run.root).rows(RATES)]
    rows[0]["k"] = 7
    write_rows(run, "rates", rows)
    assert not is_current(run.root)


@pytest.mark.usefixtures("quick")
def test_csv_files_appear_beside_tables_that_lack_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en",), n_layers=2)
    own = run.tables_dir / "rates.csv"
    own.write_text("kept as it is\n")
    build_report(run.root)
    assert own.read_text() == "kept as it is\n"
    assert (run.tables_dir / "candidates.csv").read_text().startswith('"source","position","layer"')


@pytest.mark.usefixtures("quick")
def test_out_puts_the_page_elsewhere(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", languages=("en",), n_layers=2)
    target = tmp_path / "elsewhere" / "page.html"
    assert build_report(run.root, out=target) == target
    assert target.exists() and not run.report_path.exists()


def test_no_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here"):
        build_report(tmp_path)


def test_a_layer_without_marks_is_no_image_without_a_name(tmp_path: Path) -> None:
    """Where no change was larger than chance the dots' layer is empty: axe called it an image without a text (serious)."""
    from refusal_lens.report.charts import transfer_figure
    from refusal_lens.report.figures import draw_figures

    run = make_run(tmp_path / "run", languages=("en", "de"), n_layers=2)
    rows = [{**row, "p_value": 1.0} for row in read_inputs(run.root).rows(KNOWN["transfer"])]
    write_rows(run, "transfer", rows)
    figure = transfer_figure(Facts(read_inputs(run.root)), "addition")
    assert figure is not None
    svg = draw_figures([figure])["transfer-addition.svg"].decode()
    assert "graphics-symbol" not in svg
    assert svg.startswith(f'<svg role="img" aria-label="{html.escape(figure.alt)}"')


def test_every_chart_is_valid_vega_lite(tmp_path: Path) -> None:
    import altair as alt

    from refusal_lens.report.facts import Facts
    from refusal_lens.report.sections import figures_of, result_sections

    run = make_run(tmp_path / "run", languages=("en", "de", "yo"), sources=("en", "de"), n_layers=3)
    facts = Facts(read_inputs(run.root))
    figures = figures_of(result_sections(facts))
    assert len(figures) == 12
    for figure in figures:
        alt.Chart.from_dict(dict(figure.spec), validate=True)


def test_report_never_imports_torch() -> None:
    import subprocess
    import sys

    code = "import sys, refusal_lens.report; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.usefixtures("quick")
def test_two_runs_are_compared_pair_by_pair(tmp_path: Path) -> None:
    """Of 20 prompts 15 flip from refused to complied: +75 points; exact McNemar 2 * 0.5 ** 15 = 6e-5."""
    from refusal_lens.report import build_comparison

    runs = [make_run(tmp_path / name, languages=("en",), n_layers=2) for name in ("v1", "v2")]
    for run, complied in zip(runs, (2, 17), strict=True):
        labels = {f"p{at}": "complied" if at < complied else "refused" for at in range(20)}
        rows = [
            {
                "intervention": "baseline",
                "source": "",
                "language": "en",
                "prompts": "harmful",
                "prompt_id": name,
                "label": label,
                "prompt_set": "testbed",
            }
            for name, label in labels.items()
        ]
        write_rows(run, "verdicts", rows)
    text = html_of(build_comparison([run.root for run in runs], out=tmp_path / "page.html"))
    assert "<h1>v1 and v2 side by side</h1>" in text
    assert "v2 against v1: more in English. Over 20 pairs a difference is seen from" in text
    assert "<bdi>+75</bdi>" in text and "p &lt; 0.001, 20 pairs" in text


@pytest.mark.usefixtures("quick")
def test_prompts_are_named_by_id_with_the_languages_that_answered_them_and_no_text(tmp_path: Path) -> None:
    """Two prompts in three languages by hand: p2 is answered untouched in two, p1 in none and ablated in all."""
    run = make_run(tmp_path / "run", languages=("en", "de", "yo"), n_layers=2)
    answered = {("baseline", "p2"): {"en", "yo"}, ("ablation", "p1"): {"en", "de", "yo"}}
    write_rows(run, "verdicts", [
        {"intervention": kind, "source": source, "language": code, "prompts": "harmful", "prompt_id": prompt,
         "label": "complied" if code in answered.get((kind, prompt), set()) else "refused", "prompt_set": "testbed"}
        for kind, source in (("baseline", ""), ("ablation", "en"), ("ablation", "random-0"))
        for prompt in ("p1", "p2") for code in ("en", "de", "yo")
    ])  # fmt: skip
    facts = Facts(read_inputs(run.root))
    table = prompts_table(facts)
    assert table is not None and table.folded
    heads = [(column.group, column.label) for column in table.columns]
    rows = {row[0].text: dict(zip(heads, row, strict=True)) for row in table.rows}
    assert list(rows) == ["p2", "p1"]
    assert (rows["p2"]["untouched", "answered"].text, rows["p2"]["untouched", "answered"].note) == ("2", "en yo")
    assert rows["p1"]["untouched", "answered"].text == "0"
    assert rows["p1"]["direction ablated", "answered"].note.split() == facts.ordered(["en", "de", "yo"])
    assert "Harmful prompts by id" in html_of(build_report(run.root))
