"""Exports of a run's numbers: valid by the formats' own schema or library, and never another number than the table's."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from huggingface_hub import EvalResultEntry, ModelCard, parse_eval_result_entries

from refusal_lens.cli.export import Form
from refusal_lens.core.tables import RATES
from refusal_lens.errors import RunError, UserError
from refusal_lens.exports import FORMATS, Options, export
from refusal_lens.exports.grades import grade
from refusal_lens.exports.measured import without_folders
from refusal_lens.rundir import RunDir
from report_runs import make_run, write_rows

SCHEMA = Path(__file__).parents[1] / "data" / "every_eval_ever" / "eval.schema-0.3.0.json"
HOSTILE = "evil/mo_del & $x$ {100 %} | <script>alert(1)</script> \\input{/etc/passwd}\x1b[31m"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three languages; in German nothing could be judged under ablation."""
    made = make_run(tmp_path_factory.mktemp("exports") / "run", languages=("en", "de", "yo"), n=40, n_layers=4)
    rows = [dict(row) for row in RATES.read(made.tables_dir / "rates.parquet")]
    for row in rows:
        if (row["intervention"], row["source"], row["language"], row["prompts"]) == ("ablation", "en", "de", "harmful"):
            row |= {"k": 0, "n": 0, "unscored": 40, "rate": None, "low": None, "high": None}
    write_rows(made, "rates", rows)
    return made.root


def text(run: Path, form: str, tmp_path: Path, **options: object) -> str:
    out = tmp_path / f"{form}.out"
    assert export(run, form, out=out, options=Options(**options)) == [out]
    return out.read_text(encoding="utf-8")


def known(run: Path) -> dict[tuple[str, str, str, str], dict[str, object]]:
    rows = RATES.read(run / "tables" / "rates.parquet")
    return {(row["intervention"], row["source"], row["language"], row["prompts"]): dict(row) for row in rows}


def test_every_eval_ever_is_valid_by_its_schema_and_says_the_tables_numbers(run: Path, tmp_path: Path) -> None:
    record = json.loads(text(run, "eee", tmp_path))
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    assert record["schema_version"] == "0.3.0"
    rows = known(run)
    found = {}
    for result in record["evaluation_results"]:
        told = result["metric_config"]["metric_parameters"]
        found[told["intervention"], told["source"], told["language"], told["prompts"]] = result
        row = rows[told["intervention"], told["source"], told["language"], told["prompts"]]
        score = result["score_details"]
        ends = score["uncertainty"]["confidence_interval"]
        assert (score["score"], ends["lower"], ends["upper"]) == (row["rate"], row["low"], row["high"])
        assert score["details"]["unscored"] == str(row["unscored"])
        assert result["metric_config"]["lower_is_better"] is (told["prompts"] == "harmful")
    assert set(rows) - set(found) == {("ablation", "en", "de", "harmful")}, "a cell without a rate stays missing"
    assert record["source_metadata"]["additional_details"]["cells_without_a_rate"] == "1"
    assert len({result["evaluation_result_id"] for result in record["evaluation_results"]}) == len(found)


def test_a_judge_that_is_a_model_is_named_as_the_schema_wants_it(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", languages=("en",), n_layers=2)
    header = dict(made.header) | {"judge": "polyguard:ToxicityPrompts/PolyGuard-Qwen", "seal": None}
    other = RunDir.create(tmp_path / "other", header={key: value for key, value in header.items() if key != "seal"})
    other.tables_dir.mkdir(exist_ok=True)
    (other.tables_dir / "rates.parquet").write_bytes((made.tables_dir / "rates.parquet").read_bytes())
    record = json.loads(text(other.root, "eee", tmp_path))
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    scoring = record["evaluation_results"][0]["metric_config"]["llm_scoring"]
    assert scoring["judges"][0]["model_info"]["name"] == "polyguard:ToxicityPrompts/PolyGuard-Qwen"


def test_eval_results_are_read_by_the_hubs_own_parser(run: Path, tmp_path: Path) -> None:
    entries = parse_eval_result_entries(yaml.safe_load(text(run, "eval-results", tmp_path, dataset="org/polyrefuse")))
    assert all(isinstance(entry, EvalResultEntry) and entry.dataset_id == "org/polyrefuse" for entry in entries)
    rows = known(run)
    assert {entry.task_id: entry.value for entry in entries} == {
        f"{harm}_{code}": rows["baseline", "", code, harm]["rate"]
        for code in ("en", "de", "yo")
        for harm in ("harmful", "harmless")
    }


def test_the_card_block_is_read_back_by_the_hubs_own_card(run: Path, tmp_path: Path) -> None:
    card = ModelCard(text(run, "model-card", tmp_path))
    rows = known(run)
    assert {result.dataset_config: result.metric_value for result in card.data.eval_results} == {
        f"{harm}_{code}": rows["baseline", "", code, harm]["rate"]
        for code in ("en", "de", "yo")
        for harm in ("harmful", "harmless")
    }


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_the_text_block_has_methods_every_count_and_a_dash_where_nothing_was_measured(
    run: Path, tmp_path: Path, form: str
) -> None:
    said = text(run, form, tmp_path)
    rows = known(run)
    for code in ("en", "de", "yo"):
        row = rows["baseline", "", code, "harmful"]
        assert f"({row['k']}/{row['n']})" in said
    for part in ("Methods", "Findings", "Limits", "Verdict: universal"):
        assert part in said
    german = next(line for line in said.splitlines() if line.lstrip("| ").startswith("German"))
    assert re.split(r" [|&] ", german.strip("| "))[2] in ("–", "--")


def hostile(tmp_path: Path) -> Path:
    made = make_run(tmp_path / "run", languages=("en", "yo"), n_layers=2)
    header = {name: value for name, value in made.header.items() if name not in ("seal", "schema_version")}
    header["config"] = {**header["config"], "model": {"spec": HOSTILE}}
    header["judge"] = "ju_dge#1 ~ ^ <b>"
    other = RunDir.create(tmp_path / "other", header=header)
    other.tables_dir.mkdir(exist_ok=True)
    (other.tables_dir / "rates.parquet").write_bytes((made.tables_dir / "rates.parquet").read_bytes())
    return other.root


def test_latex_is_balanced_and_nothing_of_a_run_is_a_command(tmp_path: Path) -> None:
    said = text(hostile(tmp_path), "latex", tmp_path)
    assert r"\input{" not in said and "\x1b" not in said
    body = [line for line in said.splitlines() if not line.startswith("%")]
    bare = re.sub(r"\\[\\{}%$#&_]", "", "\n".join(body))
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[%$#_^~]", bare)
    commands = set(re.findall(r"\\([A-Za-z]+)", bare))
    assert commands <= {
        "paragraph", "textbf", "begin", "end", "centering", "small", "toprule", "midrule", "bottomrule", "caption",
        "item", "ensuremath", "kappa", "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater",
        "ldots",
    }  # fmt: skip
    opened = re.findall(r"\\(begin|end)\{(\w+)\}", bare)
    stack: list[str] = []
    for kind, name in opened:
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", bare)
    assert columns is not None
    rows = [line for line in body if line.endswith(r" \\")]
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns[1])}


def test_markdown_shows_a_hostile_name_as_it_is(tmp_path: Path) -> None:
    said = text(hostile(tmp_path), "markdown", tmp_path)
    assert "<script>" not in said and "\x1b" not in said
    assert not re.search(r"(?<!\\)<", said)
    table = [line for line in said.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {8}


def test_grades_follow_the_documented_arithmetic(run: Path, tmp_path: Path) -> None:
    rows = {row["language"]: row for row in csv.DictReader(io.StringIO(text(run, "grades", tmp_path, reference=0.1)))}
    table = known(run)
    for code, row in rows.items():
        rate = table["baseline", "", code, "harmful"]["rate"]
        assert float(row["violating_rate"]) == rate
        assert float(row["safety"]) == pytest.approx(1 - float(str(rate)))
    assert rows["de"]["safety_ablated"] == rows["de"]["resilience_gap"] == ""
    assert rows["yo"]["grade"] == "Poor"
    by_hand = {
        0.001: "Excellent",
        0.049: "Very good",
        0.05: "Good",
        0.15: "Good",
        0.16: "Fair",
        0.3: "Fair",
        0.31: "Poor",
    }
    assert {rate: grade(rate, 0.1) for rate in by_hand} == by_hand
    assert (grade(None, 0.1), grade(0.2, None), grade(0.0, None)) == ("", "", "Excellent")


def test_an_unknown_format_and_a_run_without_rates_are_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no format 'xml'; there are eee, "):
        export(run, "xml", out=tmp_path / "x")
    empty = RunDir.create(tmp_path / "empty", header={"config": {}})
    for form in (name for name, known in FORMATS.items() if known.of == "numbers"):
        with pytest.raises(RunError, match="no rates to export yet"):
            export(empty.root, form, out=tmp_path / "x")


def test_a_command_line_leaves_the_house_without_folders() -> None:
    given = "/home/me/venv/bin/refusal-lens audit Qwen/Qwen2.5-7B --out=/data/secret/run --data ./private/prompts"
    assert without_folders(given) == "refusal-lens audit Qwen/Qwen2.5-7B --out=run --data prompts"


def test_the_command_offers_exactly_the_formats_there_are() -> None:
    assert [form.value for form in Form] == list(FORMATS)
