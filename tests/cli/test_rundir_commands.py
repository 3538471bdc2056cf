"""status, rates, verify and scrub on a small finished run with real tables, through the real console entry."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import command_line
from refusal_lens.measure import rate_rows
from refusal_lens.rundir import RunDir, progress, write_plan
from refusal_lens.types import Task

SECRET_TEXT = "first you bend the bike lock"
COLUMNS = ["intervention", "source", "language", "prompts", "k", "n", "unscored", "rate", "low", "high"]
PROMPTS = Task("prompts", 1, "en.test", {"digest": "d"})
CELLS = ("baseline.en", "ablation.en")
COMPLETIONS = [Task("completions", 1, name, {"cell": name}, ("prompts/en.test",), needs_model=True) for name in CELLS]
VERDICTS = [Task("verdicts", 1, name, {"judge": "native"}, (f"completions/{name}",)) for name in CELLS]
RATES = Task("rates", 1, "all", {}, tuple(task.task_id for task in VERDICTS))
PLAN = [PROMPTS, *COMPLETIONS, *VERDICTS, RATES]


def write(run: RunDir, task: Task, name: str, rows: list[dict[str, object]]) -> None:
    with run.writing(task) as folder:
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def verdict_rows(intervention: str) -> list[dict[str, object]]:
    labels = {"baseline": ["refused"] * 7 + ["complied"] + ["unscored"] * 2, "ablation": ["complied"] * 10}[
        intervention
    ]
    shared = {"intervention": intervention, "source": "en" if intervention == "ablation" else "", "language": "en"}
    return [
        {**shared, "prompts": "harmful", "prompt_id": f"p{index}", "label": label, "prompt_set": "polyrefuse"}
        for index, label in enumerate(labels)
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = RunDir.create(tmp_path_factory.mktemp("runs") / "run", header={"config": {"data": {"prompt_sets": []}}})
    write_plan(run, PLAN)
    write(run, PROMPTS, "prompts", [{"prompt_id": "p0", "text": "How does a tide work?"}])
    for task in COMPLETIONS:
        write(run, task, "completions", [{"prompt_id": f"p{i}", "text": SECRET_TEXT} for i in range(10)])
    for task in VERDICTS:
        write(run, task, "verdicts", verdict_rows(task.name.partition(".")[0]))
    verdicts = [
        row for task in VERDICTS for row in pq.read_table(run.path(task.task_id, "verdicts.parquet")).to_pylist()
    ]
    write(run, RATES, "rates", [dict(row) for row in rate_rows(verdicts)])
    run.publish(run.path("rates/all", "rates.parquet"))
    return run.root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def lens(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command that ends with this code."""
    done = command_line.run(*words)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def test_status_as_json_has_exactly_the_contract_fields(root: Path) -> None:
    found = json.loads(lens("status", root, "--format", "json").stdout)
    assert found == {
        "steps": {
            "prompts": {"done": 1, "total": 1}, "completions": {"done": 2, "total": 2},
            "verdicts": {"done": 2, "total": 2}, "rates": {"done": 1, "total": 1},
        },
        "complete": True,
    }  # fmt: skip
    shutil.rmtree(root / "data" / "completions" / "ablation.en")
    found = json.loads(lens("status", root, "--format", "json").stdout)
    assert found["steps"]["completions"] == {"done": 1, "total": 2}
    assert not found["complete"]


def test_status_for_people_escapes_names(root: Path) -> None:
    plan = (root / "plan.json").read_text()
    (root / "failures.json").write_text(json.dumps({"evil/\u001b[31mred": "boom [bold]x[/bold]\u202e"}))
    shown = lens("status", root).stdout
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "[bold]x[/bold]" in shown
    assert "complete" in shown
    (root / "plan.json").write_text(plan[:-40])
    assert "plan.json" in lens("status", root, code=2).stderr


def test_rates_have_the_contract_columns_in_every_format(root: Path) -> None:
    rows = json.loads(lens("rates", root, "--format", "json").stdout)
    assert [list(row) for row in rows] == [COLUMNS] * 2
    assert (rows[0]["k"], rows[0]["n"], rows[0]["unscored"], rows[0]["rate"]) == (1, 8, 2, 0.125)
    table = list(csv.DictReader(io.StringIO(lens("rates", root, "--format", "csv").stdout)))
    assert list(table[0]) == COLUMNS
    assert [row["k"] for row in table] == ["1", "10"]
    assert "0.125" in lens("rates", root, "--all").stdout
    assert " 12*" in lens("rates", root).stdout  # per cent; 2 of 10 could not be judged


def test_rates_of_an_unfinished_run_say_what_to_do(root: Path) -> None:
    shutil.rmtree(root / "tables")
    assert "refusal-lens resume" in lens("rates", root, code=2).stderr
    assert "no run here" in lens("rates", root / "nowhere", code=2).stderr


def test_verify_says_ok_when_all_is_sound(root: Path) -> None:
    assert lens("verify", root).stdout.startswith("OK: 7 files hashed")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "place",
    [
        "data/completions/baseline.en/completions.parquet", "data/verdicts/ablation.en/verdicts.parquet",
        "data/rates/all/rates.parquet",
        "tables/rates.parquet", "tasks/verdicts/baseline.en.json", "plan.json", "run.json", "published.json",
    ],
)  # fmt: skip
def test_verify_names_the_damaged_file(root: Path, place: str) -> None:
    path = root / place
    if path.suffix == ".json":
        path.write_text(path.read_text()[:-30])
    else:
        flip(path)
    done = lens("verify", root, code=2)
    assert place.removesuffix(".parquet").removeprefix("published.json") in done.stdout + done.stderr


def test_verify_finds_missing_and_foreign_files(root: Path) -> None:
    (root / "data" / "verdicts" / "ablation.en" / "verdicts.parquet").unlink()
    (root / "data" / "verdicts" / "guest").mkdir()
    (root / "tables" / "guest.csv").write_text("x")
    (root / "guest.txt").write_text("x")
    (root / "figures").mkdir(exist_ok=True)
    for folder in (".", "tables", "figures", "tasks/rates"):
        (root / folder / "guest.tmp").write_text("not what a killed process leaves")
        (root / folder / ".rates.json.0a1b2c3d.tmp").write_text("what a killed process leaves")
    shown = lens("verify", root, code=2).stdout
    assert "verdicts.parquet is missing" in shown
    for name in ("data/verdicts/guest", "tables/guest.csv", "guest.txt"):
        assert name in shown
    for name in ("guest.tmp", "tables/guest.tmp", "figures/guest.tmp", "tasks/rates/guest.tmp"):
        assert f"\n{name}: foreign" in f"\n{shown}"
    assert "0a1b2c3d" not in shown


def test_verify_derives_the_rates_again(root: Path) -> None:
    """A table that is forged together with its record and its published digest still disagrees with the verdicts."""
    run = RunDir.open(root)
    forged = pq.read_table(root / "tables" / "rates.parquet").to_pylist()
    forged[0] |= {"k": 0, "rate": 0.0}
    run.quarantine_task("rates/all", "forged")
    write(run, RATES, "rates", forged)
    run.publish(run.path("rates/all", "rates.parquet"))
    shown = lens("verify", root, code=2).stdout
    assert "baseline en harmful polyrefuse: k is 0, the verdicts say 1" in shown


def test_scrub_removes_the_text_and_keeps_everything_else(root: Path) -> None:
    rates = (root / "tables" / "rates.parquet").read_bytes()
    digest = RunDir.open(root).record("completions/baseline.en")
    assert digest is not None
    (root / "report.html").write_text(SECRET_TEXT)
    old = RunDir.open(root).quarantine([root / "data" / "completions" / "ablation.en"], "test")
    assert old.is_dir()
    write(
        RunDir.open(root),
        COMPLETIONS[1],
        "completions",
        [{"prompt_id": f"p{i}", "text": SECRET_TEXT} for i in range(10)],
    )
    assert "2 files with text removed" in lens("scrub", root).stdout
    for path in root.rglob("*"):
        assert not path.is_file() or (b"bike lock" not in path.read_bytes() and path.name != "completions.parquet")
    run = RunDir.open(root)
    after = run.record("completions/baseline.en")
    assert after is not None
    assert after.digest == digest.digest
    assert after.outputs == digest.outputs
    assert (root / "tables" / "rates.parquet").read_bytes() == rates
    assert "text of 2 scrubbed (digests kept)" in lens("verify", root).stdout
    assert all(run.is_valid(task) for task in PLAN)
    assert progress(run).complete
    assert "0 files with text removed" in lens("scrub", root).stdout


def test_a_scrub_that_was_killed_half_way_is_finished_by_the_next(root: Path) -> None:
    copy = (root / "data" / "completions" / "baseline.en" / "completions.parquet").read_bytes()
    lens("scrub", root)
    (root / "data" / "completions" / "baseline.en" / "completions.parquet").write_bytes(copy)
    assert "scrub again" in lens("verify", root, code=2).stdout
    assert RunDir.open(root).is_valid(COMPLETIONS[0])
    lens("scrub", root)
    lens("verify", root)


def test_scrub_waits_for_nobody(root: Path) -> None:
    with RunDir.open(root).lock():
        assert "held by process" in lens("scrub", root, code=2).stderr


def test_status_tells_a_dead_holder_from_one_at_work(root: Path) -> None:
    with RunDir.open(root).lock():
        assert f"held by process {os.getpid()} on" in lens("status", root).stdout
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    holder = {"pid": dead.pid, "host": socket.gethostname(), "since": "2026-01-01T00:00:00+00:00"}
    (root / "lock").write_text(json.dumps(holder))
    assert f"left by process {dead.pid} on" in " ".join(lens("status", root).stdout.split())


@pytest.mark.parametrize("how", ["table", "csv", "json"])
def test_numbers_of_an_inexact_run_say_so_beside_them(root: Path, how: str) -> None:
    """On stderr, so that the machine formats hold nothing else; a sound run says nothing."""
    assert "inexact" not in lens("rates", str(root), "--format", how).stderr
    sound = lens("rates", str(root), "--format", how).stdout
    RunDir.open(root).add_to_header({"checks": {"inexact": "not true: padding changes no logit, 3.0e-01"}})
    done = lens("rates", str(root), "--format", how)
    assert "failed its checks (not true: padding changes no logit, 3.0e-01), as accepted" in done.stderr
    assert done.stdout == sound
