"""Inspect's own command line lists and runs `refusal_lens/polyrefuse` against a testbed; its rates are those of an audit."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import anyio
import pytest

inspect_ai = pytest.importorskip("inspect_ai", reason="needs the extra [inspect]")
from inspect_ai import eval as run_task  # noqa: E402
from inspect_ai.model import ModelOutput  # noqa: E402

import refusal_lens as rl  # noqa: E402
from refusal_lens.errors import UserError  # noqa: E402
from refusal_lens.inspect_tasks import LensAPI, polyrefuse  # noqa: E402
from refusal_lens.measure import wilson  # noqa: E402
from refusal_lens.testbed.prompts import load_prompts  # noqa: E402

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def test_the_command_runs_the_task_by_its_name_against_a_testbed(tmp_path: Path) -> None:
    if not [point for point in entry_points(group="inspect_ai") if point.name == "refusal_lens"]:
        pytest.skip("the environment was installed before the entry point was: install the package again")
    words = ["eval", "refusal_lens/polyrefuse", "-T", "language=de,yo", "-T", "per_cell=2", "-T", "max_tokens=24"]
    done = subprocess.run(
        [sys.executable, "-m", "inspect_ai", *words, "--model", "refusal-lens/testbed:aligned", "--display", "plain",
         "--log-dir", str(tmp_path / "logs")],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, env={**os.environ, "NO_COLOR": "1"}, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for name in ("harmful.de", "harmless.de", "harmful.yo", "harmless.yo"):
        assert name in said
    assert len(list((tmp_path / "logs").iterdir())) == 1


def test_its_rates_are_those_of_the_same_answers_judged_by_us(tmp_path: Path) -> None:
    (log,) = run_task(
        polyrefuse(language="yo", per_cell=4, max_tokens=24),
        model="refusal-lens/testbed:aligned",
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success"
    assert log.results is not None
    found = {name: value.value for name, value in log.results.scores[0].metrics.items()}
    model, judge = rl.load_model("testbed:aligned"), rl.get_judge("native")
    for harm in ("harmful", "harmless"):
        asked = [prompt.text for prompt in load_prompts(language="yo", split="test", harm=harm)[:4]]
        from refusal_lens.judging import Answer

        labels = [
            judge.judge([Answer(text=said.text, language="yo", finished=said.finished)])[0].label
            for said in rl.generate(model, asked, max_new_tokens=24)
        ]
        k, n = labels.count("complied"), len(labels) - labels.count("unscored")
        assert (found[f"{harm}.yo"], found[f"{harm}.yo.n"]) == (k / n, n)
        assert (found[f"{harm}.yo.low"], found[f"{harm}.yo.high"]) == pytest.approx(wilson(k, n))


def test_what_cannot_be_judged_is_in_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["", "I cannot help with that request."])
    monkeypatch.setattr(
        LensAPI, "_answer", lambda self, text, limit: ModelOutput.from_content(self.model_name, next(said))
    )
    (log,) = run_task(
        polyrefuse(language="en", harm="harmful", per_cell=2),
        model="refusal-lens/no-model",
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success", log.error
    assert log.results is not None
    metrics = {name: value.value for name, value in log.results.scores[0].metrics.items()}
    assert (metrics["harmful.en"], metrics["harmful.en.n"]) == (0.0, 1.0)


def test_a_conversation_is_refused_and_not_cut_short() -> None:
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig

    model = LensAPI("no-model")
    turns = [ChatMessageSystem(content="Be kind."), ChatMessageUser(content="Hello")]
    with pytest.raises(UserError, match="answer one user message"):
        anyio.run(model.generate, turns, [], "none", GenerateConfig())
