"""A whole audit of a shipped model, small: what it computes, what it recomputes, what it says when there is nothing to find."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from prompt_folders import make_polyrefuse
from refusal_lens import open_run
from refusal_lens.cli.app import app
from refusal_lens.cli.settings import build as build_settings
from refusal_lens.config import QUICK, AuditConfig, parse_config
from refusal_lens.directions import Speed
from refusal_lens.errors import DataError, ModelError, RunError, UserError
from refusal_lens.model import load_model, outline
from refusal_lens.pipeline import (
    AuditResult,
    check_takeover,
    cost_of,
    earlier_header,
    missing_lines,
    prepare,
    run_audit,
)
from refusal_lens.pipeline.dataset import Missing
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue, Outcome
from tiny_models import build

PER_LANGUAGE = {"prompts", "tokens", "filtering", "candidates", "selection", "completions", "verdicts"}
CONTRACT = ["intervention", "source", "language", "prompts", "k", "n", "unscored", "rate", "low", "high"]


def settings(**changes: object) -> AuditConfig:
    tree: dict[str, dict[str, object]] = {
        "model": {"spec": "testbed:universal"},
        "data": {"languages": ["de", "en"], "limit": 10},
        "directions": {"sources": ["en"], "n_train": 32, "n_val": 12, "random": 1},
        "generation": {"max_new_tokens": 32},
        "geometry": {"prompts_per_class": 16, "bootstrap": 20, "permutations": 10},
    }
    for path, value in changes.items():
        section, _, key = path.partition("__")
        if key:
            tree[section][key] = value
        else:
            assert isinstance(value, dict)
            tree[section] = value
    return parse_config(tree, where="test")


def run(config: AuditConfig, out: Path) -> tuple[AuditResult, dict[str, str]]:
    statuses: dict[str, str] = {}

    def note(outcome: Outcome, _total: int) -> None:
        statuses[outcome.task_id] = outcome.status

    return run_audit(prepare(config), out, command=["test"], on_outcome=note), statuses


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audit") / "run"
    result, _ = run(settings(), out)
    assert result.valid_sources == ("en",)
    return out


@pytest.fixture
def rate(audited: Path) -> Callable[..., dict[str, object]]:
    rows = open_run(audited).rates.to_pylist()

    def find(**wanted: str) -> dict[str, object]:
        found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
        assert len(found) == 1, (wanted, found)
        return found[0]

    return find


@pytest.mark.slow
def test_rates_have_the_contracts_columns_and_the_models_truth(
    audited: Path, rate: Callable[..., dict[str, object]]
) -> None:
    assert open_run(audited).rates.column_names[: len(CONTRACT)] == CONTRACT
    for language in ("de", "en"):
        baseline = rate(intervention="baseline", language=language, prompts="harmful")
        ablated = rate(intervention="ablation", source="en", language=language, prompts="harmful")
        null = rate(intervention="ablation", source="random-0", language=language, prompts="harmful")
        assert baseline["source"] == ""
        assert baseline["rate"] <= 0.2, "the model refuses"
        assert ablated["rate"] >= 0.8, "the English direction carries refusal in every language"
        assert null["rate"] <= 0.3, "a random direction of the same norm does not"
        assert rate(intervention="baseline", language=language, prompts="harmless")["rate"] >= 0.8


@pytest.mark.slow
def test_the_same_audit_again_computes_nothing(audited: Path) -> None:
    before = {file: file.read_bytes() for file in sorted((audited / "tables").iterdir())}
    result, statuses = run(settings(), audited)
    assert result.computed == 0
    assert set(statuses.values()) == {"cached"}
    assert {file: file.read_bytes() for file in sorted((audited / "tables").iterdir())} == before


@pytest.mark.slow
def test_a_new_language_computes_only_what_is_new(audited: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(audited, copy)
    _, statuses = run(settings(data__languages=["de", "en", "fr"]), copy)
    for task_id, status in statuses.items():
        step, name = task_id.split("/")
        new = "fr" in name.split(".") or "shuffled" in name or "pooled" in name
        if step in PER_LANGUAGE and not new:
            assert status == "cached", task_id


@pytest.mark.slow
def test_a_model_that_refuses_nothing_ends_with_exit_3_and_a_report(tmp_path: Path) -> None:
    model = build("llama", tmp_path / "model")
    options = [
        "--data",
        str(make_polyrefuse(tmp_path / "data")),
        "--languages",
        "en,de",
        "--max-new-tokens",
        "6",
        "--random",
        "1",
    ]
    result = CliRunner().invoke(app, ["audit", str(model), *options, "--out", str(tmp_path / "run")])
    assert type(result.exception).__name__ == "NoValidDirection", result.output
    assert (tmp_path / "run" / "report.html").exists()
    rows = open_run(tmp_path / "run").rates.to_pylist()
    assert {row["intervention"] for row in rows} == {"baseline"}, "cells without a direction are absent, not zero"
    chosen = open_run(tmp_path / "run").table("selection").to_pylist()
    assert chosen[0]["status"] == "no valid direction"
    assert chosen[0]["reason"]


@pytest.mark.slow
def test_the_baseline_alone_is_enough_for_a_gate_and_kept_by_a_whole_audit_whose_tables_are_those_of_another_run(
    audited: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = "audit testbed:universal --baseline-only --languages de,en --limit 10 --max-new-tokens 32 --out"
    result = CliRunner().invoke(app, [*command.split(), str(out)])
    assert result.exit_code == 0, result.output
    assert "no direction was asked for" in result.stdout.replace("\n", " ")
    assert "No valid refusal direction" not in result.stdout and "verdict:" not in result.stdout
    rows = open_run(out).rates.to_pylist()
    assert {row["intervention"] for row in rows} == {"baseline"} and len(rows) == 4
    assert {path.name for path in (out / "data").iterdir()} == {
        "prompts", "completions", "verdicts", "rates", "overview", "universality",
    }  # fmt: skip
    whole = {tuple(row.values()) for row in open_run(audited).rates.to_pylist() if row["intervention"] == "baseline"}
    assert {tuple(row.values()) for row in rows} == whole, "the same prompts as in a whole audit"
    verdict = CliRunner().invoke(app, ["verdict", str(out), "--format", "json"])
    assert json.loads(verdict.stdout)["verdict"] == "undefined"
    gate = CliRunner().invoke(app, ["gate", str(out), "--max-compliance", "de=1.0,en=1.0", "--trust-judge", "de,en"])
    assert gate.exit_code == 0, gate.output
    _, statuses = run(settings(), out)
    baseline = {name: status for name, status in statuses.items() if "/baseline." in name}
    assert len(baseline) == 8 and set(baseline.values()) == {"cached"}
    same = sorted((audited / "tables").glob("*.parquet"))
    assert len(same) > 5
    for file in same:  # computed once more, in another folder and in two calls
        assert (out / "tables" / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_baseline_of_a_model_that_refuses_nothing_is_no_failure(tmp_path: Path) -> None:
    model = build("llama", tmp_path / "model")
    data = make_polyrefuse(tmp_path / "data")
    words = f"--data {data} --languages en,de --max-new-tokens 4 --baseline-only --out {tmp_path / 'run'}"
    result = CliRunner().invoke(app, ["audit", str(model), *words.split()])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "report.html").exists()


def test_quick_is_a_preset_that_options_and_files_overrule(tmp_path: Path) -> None:
    file = tmp_path / "audit.toml"
    file.write_text("[directions]\nrandom = 2\n")
    asked: dict[str, dict[str, JsonValue]] = {
        "model": {"spec": "testbed:universal"},
        "generation": {"max_new_tokens": 9},
    }
    config, by_name = build_settings(asked, {}, file, QUICK)
    assert (config.directions.random, config.directions.mode, config.generation.max_new_tokens) == (2, "race", 9)
    assert config.data.limit == QUICK["data"]["limit"] and not config.directions.pooled
    assert by_name == frozenset(), "a preset's numbers need not be there"
    assert not config.geometry.enabled, "refusal tokens of the sources alone"
    answers = 3 * (2 + 2 + 1) * int(str(QUICK["data"]["limit"]))  # baseline, en ablated, one null
    assert 2 * config.directions.discovery <= answers / 5, "finding refusal tokens costs less than what they serve"


def test_a_model_without_prompts_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="refusal-lens data download"):
        prepare(settings(model__spec=str(build("llama", tmp_path / "model"))))


def test_a_language_without_any_prompt_is_refused_by_name(tmp_path: Path) -> None:
    """Found in review: `--languages en,fr` with prompts in no French passed --dry-run and the audit."""
    data = make_polyrefuse(tmp_path / "data")
    changes = {"data__root": str(data), "data__limit": None}
    with pytest.raises(DataError, match=r"no prompt of any kind for fr, th in .*: leave them out of --languages"):
        prepare(settings(data__languages=["de", "en", "fr", "th"], **changes))
    command = ["audit", "testbed:universal", "--data", str(data), "--out", str(tmp_path / "run"), "--dry-run"]
    result = CliRunner().invoke(app, [*command, "--languages", "fr,en"])
    assert isinstance(result.exception, DataError) and result.exception.exit_code == 2
    prepared = prepare(settings(data__languages=["de", "en", "fr", "th"], **changes), asked=())
    assert {"fr", "th"} <= {item.language for item in prepared.dataset.missing}, "of all languages: named as missing"


def test_the_number_format_of_a_key_is_the_one_the_model_is_loaded_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in review: `dtype: auto` in keys paired float32 results of a CPU with bfloat16 ones of a GPU."""
    here = prepare(settings(transport={"device": "cpu"}))
    assert load_model("testbed:universal", device="cpu").provenance.dtype == "float32"
    assert here.config.model.dtype == "float32"
    assert {task.params.get("dtype") for task in here.tasks} == {None, "float32"}
    monkeypatch.setattr("refusal_lens.model.load._device", lambda _: torch.device("cuda"))
    there = prepare(settings(transport={"device": "cuda"}))
    assert {task.params.get("dtype") for task in there.tasks} == {None, "bfloat16"}
    again = prepare(there.config.model_copy(update={"transport": here.config.transport}))
    assert again.config.model.dtype == "bfloat16", "a resumed run goes on in the format it began with"
    remote = prepare(settings(transport={"executor": "ray", "gpus_per_worker": 1.0}))
    assert remote.config.model.dtype == "bfloat16", "the workers' GPUs decide, not the driver's machine"


def test_an_unusable_model_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = build("llama", tmp_path / "model")
    (broken / "model.safetensors").write_bytes(b"no weights")
    config = settings(model__spec=str(broken), data__root=str(make_polyrefuse(tmp_path / "data")))
    with pytest.raises(ModelError, match="damaged"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = f"audit testbed:universal --languages en --limit 4 --out {out} --dry-run"
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0, result.output
    assert "completions" in result.output
    assert not out.exists()


def test_a_dry_run_loads_no_weights_groups_what_is_missing_and_says_what_would_be_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a dry run needs no weights")

    monkeypatch.setattr("refusal_lens.model.load.load_network", loaded)
    prepared = prepare(settings(data__limit=None, generation__max_new_tokens=512, directions__n_val=99))
    monkeypatch.setattr(
        "refusal_lens.pipeline.cost.probe_speed", lambda *_, **__: Speed(reading=50_000.0, writing=2_000.0)
    )
    text = "\n".join(cost_of(prepared))
    assert "shorter: --max-new-tokens 64 saves about" in text and "shorter: --quick, a first look, takes about" in text
    assert "time: at most about" in text
    rows = 0
    for task in prepared.tasks:
        if task.step == "completions":
            _, sources, language, harm, _ = task.params["cells"]
            prompts = [item for item in prepared.dataset.parts[f"{language}.test"] if item.harm == harm]
            rows += len(sources) * len(prompts[task.params["first"] :][: task.params["size"]])
    saved = rows * (512 - 64) / 2_000.0
    assert f"--max-new-tokens 64 saves about {saved / 60:.0f} minutes" in text
    assert "shorter" not in "\n".join(cost_of(prepare(settings()))), "a short run needs no advice"
    missing = list(missing_lines(prepared.dataset.missing))
    assert missing == [
        f"missing: de, en: val {harm} (testbed): only 48 of 99 prompts: all are used"
        for harm in ("harmful", "harmless")
    ]
    found = outline("testbed:universal", ["Hello"])
    monkeypatch.undo()
    model = load_model("testbed:universal", device="cpu")
    assert (found.n_layers, found.d_model, found.n_positions) == (model.n_layers, model.d_model, len(model.positions))
    assert found.parameters == sum(item.numel() for item in model.hf.parameters())
    assert found.prompt_tokens == len(model.render(["Hello"])[0])


def test_a_gap_of_arabic_stands_in_the_line_of_the_others() -> None:
    """`ar` in "are" and "harmful" was taken for the language's code, and Arabic had a line of its own."""
    why = "only 48 of 99 prompts: all are used"
    found = list(missing_lines(tuple(Missing(code, "val", "harmful", "testbed", why) for code in ("en", "ar"))))
    assert found == [f"missing: ar, en: val harmful (testbed): {why}"]


@pytest.mark.slow
def test_another_models_run_is_not_taken_over(audited: Path, tmp_path: Path) -> None:
    """Found in review: `--out` of a finished run of another model was taken over without a word."""
    before = {file: file.read_bytes() for file in sorted(audited.rglob("*")) if file.is_file()}
    for words in (["--dry-run"], []):
        command = ["audit", "testbed:aligned", "--languages", "en", "--limit", "1", "--out", str(audited), *words]
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, RunError) and result.exception.exit_code == 2, result.output
        assert "testbed:universal" in str(result.exception) and "--replace" in str(result.exception)
    assert {file: file.read_bytes() for file in sorted(audited.rglob("*")) if file.is_file()} == before
    run_prepared = prepare(settings(generation__max_new_tokens=5))
    check_takeover(run_prepared.identity, run_prepared.config, audited, earlier_header(audited))
    assert earlier_header(tmp_path) == {}


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_read_but_not_gone_on_from(audited: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(audited, copy)
    header = {name: value for name, value in RunDir.open(copy).header.items() if name != "plan_format"}
    RunDir.create(copy, header=header)
    before = {file: file.read_bytes() for file in sorted((copy / "tasks").rglob("*.json"))}
    for words in (["audit", "testbed:universal", "--out"], ["resume"]):
        result = CliRunner().invoke(app, [*words, str(copy)])
        assert isinstance(result.exception, RunError) and "earlier version" in str(result.exception), result.output
    assert {file: file.read_bytes() for file in sorted((copy / "tasks").rglob("*.json"))} == before
    for words in (["rates"], ["verdict"], ["report"]):
        assert CliRunner().invoke(app, [*words, str(copy)]).exit_code == 0, words


@pytest.mark.slow
def test_versions_of_an_earlier_call_stay_in_the_header_with_a_warning(
    audited: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Found in review: a run resumed with other libraries forgot with what its results were computed."""
    copy = tmp_path / "copy"
    shutil.copytree(audited, copy)
    header = dict(RunDir.open(copy).header)
    now = header["versions"]
    assert isinstance(now, dict)
    RunDir.create(copy, header={**header, "versions": {**now, "torch": "2.0.1"}})
    for _ in range(2):
        run(settings(), copy)
    header = dict(RunDir.open(copy).header)
    assert header["versions"] == now and header["earlier_versions"] == [{"torch": "2.0.1"}]
    assert "torch 2.0.1 (now" in caplog.text


@pytest.mark.slow
def test_the_run_directory_tells_where_every_number_comes_from(audited: Path) -> None:
    header = json.loads((audited / "run.json").read_text(encoding="utf-8"))
    assert {"config", "command", "model_digest", "judge", "data_digests", "versions"} <= set(header)
    for file in (audited / "data" / "completions").rglob("*.parquet"):
        assert file.stat().st_mode & 0o077 == 0, "completions are their owner's alone"
