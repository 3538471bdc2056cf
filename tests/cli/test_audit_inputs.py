"""audit with options that cannot be: one message, exit 2, nothing written; found by trying them by hand."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from test_rundir_commands import lens

from refusal_lens.config import parse_config
from refusal_lens.engines import proof
from refusal_lens.executors.pace import Lines
from refusal_lens.pipeline.dataset import load_dataset
from refusal_lens.rundir import RunDir
from refusal_lens.types import Outcome

BASE = '[model]\nspec = "testbed:universal"\n[data]\nlanguages = ["en"]\nlimit = 1\n'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--address 1.2.3.4:5", "add --executor ray"),
        ("--store foo://bar", "foo://bar: this storage cannot be used"),
        ("--store file:///dev/null", "the store cannot be used"),
        ("--store file:///proc/none", "the store cannot be used"),
        ("--coefficient nan", "interventions.coefficient: Input should be a finite number"),
        ("--kl-threshold inf", "directions.kl_threshold: Input should be a finite number"),
        ("--seed 99999999999999999999", "seed: Input should be less than 4294967296"),
        ("--batch-size ²", "give a whole number from 1 up, or auto"),
        ("--engine vllm --plain", "leave one of them out"),
        ("--tensor-parallel 2 --plain", "--plain does not use vLLM"),
        ("--tensor-parallel 2 --engine hf", "--engine hf does not use vLLM"),
    ],
)
def test_options_that_do_not_fit_leave_nothing_behind(options: str, message: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = f"audit testbed:universal --languages en --limit 1 --out {out} {options}"
    assert message in lens(*command.split(), code=2).stderr
    assert not out.exists()


def test_an_engine_that_is_not_installed_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "is_installed", lambda: False)
    out = tmp_path / "run"
    command = f"audit testbed:universal --languages en --limit 1 --out {out} --engine vllm"
    assert "pip install 'refusal-lens[vllm]'" in lens(*command.split(), code=2).stderr
    assert not out.exists()


def test_an_address_where_nothing_listens_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "run"
    command = f"audit testbed:universal --languages en --limit 1 --out {out} --executor ray"
    started = time.monotonic()
    with socket.socket() as bound:  # nobody listens at a port that is held, and nobody else is given it
        bound.bind(("127.0.0.1", 0))
        done = lens(*command.split(), "--address", f"127.0.0.1:{bound.getsockname()[1]}", code=2)
    assert "no Ray cluster answers" in done.stderr
    assert time.monotonic() - started < 60
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{BASE}[interventions]\ncoefficient = nan\n", "interventions.coefficient: Input should be a finite number"),
        (f"{BASE}[directions]\nn_train = true\n", "directions.n_train: Input should be a valid integer"),
        (f'{BASE}[directions]\nn_train = "3"\n', "directions.n_train: Input should be a valid integer"),
        (f"{BASE}[directions]\nsources = []\n", "directions.sources: Tuple should have at least 1 item"),
        (f"{BASE}[directions]\nn_train = 1{'0' * 5000}\n", "not a readable TOML configuration"),
        ("model = 3\n", "model: should be a table"),
        ("seed = 1979-05-27\n[model]\nspec = 'testbed:universal'\n", "seed: Input should be a valid integer"),
        (
            "[model]\nspec = 'testbed:universal'\n[data]\nlanguages = 'en'\n",
            "data.languages: Input should be a valid tuple",
        ),
    ],
)
def test_a_configuration_with_impossible_values_leaves_nothing_behind(text: str, message: str, tmp_path: Path) -> None:
    file, out = tmp_path / "audit.toml", tmp_path / "run"
    file.write_text(text)
    assert message in lens("audit", "--config", file, "--out", out, code=2).stderr
    assert not out.exists()


def test_the_command_line_completes_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "audit.toml"
    file.write_text("seed = 3\n[directions]\nrandom = 1\n")
    assert "no model" in lens("audit", "--config", file, "--dry-run", code=2).stderr
    words = ("testbed:universal", "--languages", "en", "--config", file, "--dry-run")
    assert "forward passes" in lens("audit", *words).stdout


def test_fewer_prompts_than_asked_is_an_error_and_fewer_than_usual_is_named(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("audit", "testbed:universal", "--languages", "en", "--out", out)
    assert "en has 160 harmful ones: give --n-train 160 or less" in lens(*words, "--n-train", "161", code=2).stderr
    assert not out.exists()
    tree = {"model": {"spec": "testbed:universal"}, "data": {"languages": ["en"]}, "directions": {"n_val": 99}}
    found = load_dataset(parse_config(tree, where="test"))
    assert [item.why for item in found.missing] == ["only 48 of 99 prompts: all are used"] * 2
    assert found.count("en.select", "harmful") == 128 + 48


def test_a_key_in_the_place_of_a_model_is_refused(tmp_path: Path) -> None:
    key = "sk-abcdefghijklmnopqrst"
    words = ("audit", "testbed:universal", "--languages", "en", "--out", tmp_path / "run")
    done = lens(*words, "--judge", f"endpoint:http://localhost:9/v1#{key}", code=2)
    assert "looks like a key" in done.stderr and key not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["status", "rates", "verify", "scrub", "resume", "report"])
def test_a_name_that_no_folder_can_have(command: str, tmp_path: Path) -> None:
    done = lens(command, tmp_path / ("x" * 300), code=2)
    assert "cannot be looked into" in done.stderr


def test_an_audit_into_a_name_that_no_folder_can_have(tmp_path: Path) -> None:
    name = "x" * 300
    assert "--out" in lens("audit", "testbed:universal", "--languages", "en", "--out", tmp_path / name, code=2).stderr


@pytest.mark.parametrize(("place", "what"), [("prepare", "nothing was written yet"), ("report", "resume")])
def test_an_interruption_says_what_is_true(
    place: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first task there is nothing to resume; in the report, after the last one, there is."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run = RunDir.create(tmp_path / "run", header={"seed": 0}).root if place == "report" else tmp_path / "run"
    monkeypatch.setattr("refusal_lens.pipeline.prepare", interrupted)
    done = lens("audit", "testbed:universal", "--languages", "en", "--out", run, code=130)
    assert what in done.stderr


def test_a_log_gets_lines_and_no_bar() -> None:
    """Found in review: `audit .. > log 2>&1` was silent until its end."""
    ids = [f"completions/{index}" for index in range(40)] + ["rates/all"]
    lines: list[str] = []
    moved = Lines(ids, lines.append).moved
    for task_id in ids:
        moved(Outcome(task_id, "failed" if task_id.endswith("/7") else "done", 0.0), len(ids))
    assert len(lines) == 10 + 1 + 1
    assert lines[0].startswith("completions: 4 of 40 (") and lines[-1].startswith("rates: 1 of 1 (")
    assert "completions/7 failed" in lines
