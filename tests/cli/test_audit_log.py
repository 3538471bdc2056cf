"""What an audit says while it runs: lines, a sign of life, the run's own log, --quiet and --verbose, and time left."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner, Result

from refusal_lens.cli import app as cli_app
from refusal_lens.cli import show
from refusal_lens.cli.app import app
from refusal_lens.cli.logs import logging_to
from refusal_lens.errors import UserError
from refusal_lens.executors import pace
from refusal_lens.executors.pace import Lines, Pace, Running
from refusal_lens.rundir import RunDir, verify_chain, write_plan
from refusal_lens.types import Advance, Outcome, Task, TaskGroup

LOGGER = logging.getLogger("refusal_lens.somewhere")


def lens(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.slow
def test_an_audit_leaves_its_log_and_is_silent_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("audit", "testbed:universal", "--languages", "en", "--baseline-only", "--limit", 3, "--out", out)
    first = lens(*words)
    assert first.exit_code == 0, (first.output, first.exception)
    assert "verdicts: 2 of 2" in first.stderr
    log = (out / "audit.log").read_text()
    assert "completions: 2 of 2" in log
    assert (out / "audit.log").stat().st_mode & 0o777 == 0o600
    assert not verify_chain(RunDir.open(out)).problems
    quiet = lens(*words[:-2], "--limit", 4, "--out", out, "--quiet")
    assert quiet.exit_code == 0, (quiet.output, quiet.exception)
    assert quiet.stderr == ""
    assert (out / "audit.log").read_text().count("completions: 2 of 2") == 2, "a second call writes on"
    assert isinstance(lens(*words, "--quiet", "--verbose").exception, UserError)


def test_the_log_waits_for_the_run_masks_secrets_and_keeps_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["refusal-lens", "audit", "m", "--hub-token", "hf_abcdefgh12345678"])
    out = tmp_path / "run"
    with pytest.raises(ZeroDivisionError), logging_to(out, stderr=logging.WARNING) as note:
        LOGGER.info("before the run is there")
        assert not out.exists()
        RunDir.create(out, header={})
        LOGGER.warning("a warning")
        note("a line of progress")
        raise ZeroDivisionError("at last")
    log = (out / "audit.log").read_text()
    assert [line.split(" ", 2)[2] for line in log.splitlines()] == [
        "refusal-lens audit m --hub-token ***",
        "before the run is there",
        "a warning",
        "a line of progress",
        "ended by ZeroDivisionError: at last",
    ]
    assert capsys.readouterr().err == "a warning\n"
    assert not logging.getLogger("refusal_lens").handlers


@pytest.mark.parametrize(("level", "shown"), [(logging.ERROR, ""), (logging.INFO, "said\nwarned\n")])
def test_stderr_hears_from_its_level_on(level: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(None, stderr=level):
        LOGGER.info("said")
        LOGGER.warning("warned")
    assert capsys.readouterr().err == shown


def test_a_minute_without_a_line_names_the_running_task(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    said: list[str] = []
    lines = Lines(["completions/a", "completions/b"], said.append)
    lines.started(Task("completions", 1, "a"))
    now[0] += 59
    lines.still()
    assert said == []
    now[0] += 2
    lines.still()
    lines.still()
    assert said == ["running completions/a (61 s)"]
    lines.moved(Outcome("completions/a", "done", 61.0), 2)
    assert said[1:] == ["completions: 1 of 2 (61 s, about 61 s left of the steps begun)"]


def test_the_sign_of_life_says_how_far_the_task_is_and_how_long_the_plan_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by users: `running completions/..` for half an hour, and not how far."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    said: list[str] = []
    weights = {"scores/en": 100.0, "completions/a": 300.0, "rates/all": 0.0}
    lines = Lines(list(weights), said.append, weights=weights)
    lines.started(Task("scores", 1, "en"))
    now[0] = 70.0
    lines.advanced(Advance("scores/en", 0.5, "60 of 120 passes"))
    lines.advanced(Advance("completions/a", 0.5, "of a task that is not at work"))
    lines.still()
    # 50 of 400 weights in 70 s: 1.4 s each, 350 left
    assert said == ["running scores/en (70 s; 60 of 120 passes; about 8 min left)"]
    assert lines.pace.share(lines.running) == pytest.approx(50 / 400)
    lines.moved(Outcome("scores/en", "done", 140.0), 3)
    assert said[1] == "scores: 1 of 1 (70 s, about 7 min left)"  # 300 at 1.4 s


def test_tasks_computed_together_are_one_work_with_the_weight_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    said: list[str] = []
    tasks = [Task("completions", 1, name) for name in "abcd"]
    lines = Lines([task.task_id for task in tasks], said.append, weights={task.task_id: 10.0 for task in tasks})
    lines.started(TaskGroup.of(tasks[0], tasks[1:3]))
    now[0] = 60.0
    lines.advanced(Advance("completions/a", 0.5, "9 of 18 answers"))
    lines.still()
    # 15 of 40 weights in a minute: 4 s each, 25 left
    assert said == ["running completions/a and 2 more (60 s; 9 of 18 answers; about 2 min left)"]
    assert lines.pace.left(lines.running, now=60.0) == pytest.approx(100.0)
    assert lines.pace.share(lines.running) == pytest.approx(15 / 40)
    now[0] = 120.0
    for place, task in enumerate(tasks[:3]):
        lines.moved(Outcome(task.task_id, "done", 40.0, more=2 - place), 4)
    assert said[1:] == ["completions: 3 of 4 (120 s, about 40 s left)"], "one line for what ended together"


def test_time_left_is_weighted_and_takes_each_steps_own_pace() -> None:
    pace = Pace(["a/0", "a/1", "b/0", "c/0"], workers=2, weights={"a/0": 1.0, "a/1": 3.0, "b/0": 2.0, "c/0": 0.0})
    assert pace.left({}) is None
    pace.add("a/0", 10.0)
    assert pace.left({}) == pytest.approx((3 * 10 + 2 * 10) / 2)  # b is not begun: at a's pace
    at_work = {"b/0": Running(since=100.0, share=0.25)}
    assert pace.left(at_work, now=101.0) == pytest.approx((3 * 10 + 1.5 * 2.0) / 2)  # half a weight in a second
    pace.add("a/1", 0.0, computed=False)
    pace.add("b/0", 4.0)
    assert pace.left({}) is None and pace.share({}) == 1.0


def test_without_weights_time_left_is_the_mean_of_what_was_computed_over_the_workers() -> None:
    pace = Pace([f"a/{index}" for index in range(10)] + ["b/0"], workers=2)
    assert pace.left({}) is None
    pace.add("a/0", 0.0, computed=False)
    assert pace.left({}) is None
    pace.add("a/1", 4.0)
    pace.add("a/2", 8.0)
    assert pace.left({}) == 7 * 6.0 / 2  # seven left at a mean of six seconds, two at a time; b is not begun


def test_status_says_how_long_the_rest_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir.create(tmp_path / "run", header={})
    tasks = [Task("completions", 1, f"t{index}") for index in range(3)]
    write_plan(run, tasks)
    with run.writing(tasks[0]) as folder:
        (folder / "out.txt").write_text("x")
    record = run.record(tasks[0].task_id)
    assert record is not None
    result = lens("status", run.root)
    assert result.exit_code == 0
    assert "left of the steps begun" in result.output


def test_every_command_gives_a_sign_of_life_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(cli_app.time, "monotonic", lambda: now[0])
    say = cli_app.sign_of_life()
    for now[0] in (1.0, 59.0, 61.0, 100.0, 121.0):
        say(0.5, f"{now[0]:.0f} of 200 prompts read")
    assert capsys.readouterr().err == "61 of 200 prompts read (61 s)\n121 of 200 prompts read (121 s)\n"


def test_two_bars_fit_a_terminal_of_80_columns() -> None:
    """The whole plan by its weight with the time left, and the task at work with how far it is."""
    ids = {"completions/ablation.en-and-4-more.de.harmful.0": 300.0, "scores/en": 100.0}
    lines = Lines(list(ids), lambda _: None, weights=ids)
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Progress(*show.columns(), console=console, auto_refresh=False) as bar:
        watchers = show.drawn(lines, bar, 2, "loading testbed:universal")
        watchers.on_outcome(Outcome("scores/en", "done", 140.0), 2)
        watchers.on_start(Task("completions", 1, "ablation.en-and-4-more.de.harmful.0"))
        watchers.on_advance(
            Advance("completions/ablation.en-and-4-more.de.harmful.0", 0.5, "12 of 40 answers, 1,204 tokens")
        )
        whole, inner = bar.tasks
        assert (whole.completed, inner.completed) == (250 / 400, 0.5)
        rows = [segment.text for line in console.render_lines(bar.get_renderable()) for segment in line]
        shown = "".join(rows)
        assert "1 of 2 tasks, about" in shown and "12 of 40 answers, 1,204 tokens" in shown and "…" not in shown
        watchers.on_outcome(Outcome("completions/ablation.en-and-4-more.de.harmful.0", "done", 1.0), 2)
        assert whole.completed == 1.0 and not inner.visible
