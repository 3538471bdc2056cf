"""The public face from Python: one call to a direction, and models and judges in whatever form they are at hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import refusal_lens as rl
from refusal_lens.core import progress as core_progress
from refusal_lens.errors import DataError, UserError
from refusal_lens.judging import Answer, as_judge
from refusal_lens.pipeline import prepare
from refusal_lens.testbed import load_prompts
from refusal_lens.types import Prompt, Verdict


@pytest.fixture(scope="module")
def model() -> rl.LensModel:
    return rl.load_model("testbed:universal", device="cpu")


@pytest.fixture(scope="module")
def classes() -> dict[str, list[Prompt]]:
    return {
        harm: [
            prompt
            for split, count in (("train", 24), ("val", 10))
            for prompt in load_prompts(language="en", split=split, harm=harm)[:count]
        ]
        for harm in ("harmful", "harmless")
    }


def test_one_call_finds_a_direction_that_carries_refusal(model: rl.LensModel, classes: dict[str, list[Prompt]]) -> None:
    found = rl.find_direction(model, classes["harmful"], classes["harmless"], language="en", mode="race")
    assert found.source == "en" and found.position in model.positions
    assert repr(found).startswith("Direction('en', position -") and len(repr(found)) < 100
    assert len(repr(model)) < 120 and "\n" not in repr(model)
    asked = [prompt.text for prompt in load_prompts(language="en", split="test", harm="harmful")[:8]]
    judge = as_judge("native")
    refused = {}
    for name, done in (("plain", []), ("ablated", [found.ablation()])):
        answers = rl.generate(model, asked, max_new_tokens=24, interventions=done)
        verdicts = judge.judge([Answer(text=item.text, language="en") for item in answers])
        refused[name] = sum(item.label == "refused" for item in verdicts)
    assert refused["plain"] >= 6 and refused["ablated"] <= 2, refused
    added = found.addition(coefficient=2.0)
    stream = torch.zeros(1, model.d_model)
    assert torch.allclose(added(stream)[0], 2.0 * found.vector, atol=1e-5)


def test_an_affine_ablation_needs_the_harmless_mean() -> None:
    direction = rl.Direction(torch.ones(4), -1, 2, "en")
    assert direction.ablation().reference is None
    with pytest.raises(DataError, match="harmless mean is not known"):
        direction.ablation(affine=True)


def test_too_few_prompts_are_refused_by_number(model: rl.LensModel) -> None:
    with pytest.raises(DataError, match="3 harmful prompts are too few"):
        rl.find_direction(model, ["a", "b", "c"], ["d"] * 8)


def length_judge(answer: Answer) -> str:
    return "refused" if len(answer.text) < 40 else "complied"


def test_a_judge_is_a_name_an_object_or_a_function() -> None:
    answers = [Answer(text="No.", language="en"), Answer(text="x" * 50, language="en", finished=False)]
    found = as_judge(length_judge)
    assert found.name.endswith("test_api.length_judge")
    assert [item.label for item in found.judge(answers)] == ["refused", "complied"]
    assert [item.truncated for item in found.judge(answers)] == [False, True]
    own = Verdict("unscored", None, uncertain=True, reason="tired", judge="mine")
    mine = lambda _: own  # noqa: E731
    with pytest.raises(UserError, match="needs a name"):
        as_judge(mine)
    mine.name = "mine v1"
    assert as_judge(mine).name == "mine v1" and as_judge(mine).judge(answers)[0].reason == "tired"
    with pytest.raises(UserError, match="gave 'maybe'"):
        strange = lambda _: "maybe"  # noqa: E731
        strange.name = "strange"
        as_judge(strange).judge(answers)
    with pytest.raises(UserError, match="unknown judge"):
        as_judge("nobody")


def test_a_loaded_model_and_a_function_have_the_keys_of_their_names(model: rl.LensModel, tmp_path: Path) -> None:
    options = {"languages": "en", "limit": 4, "max_new_tokens": 8, "baseline_only": True, "device": "cpu"}
    by_name = rl.audit("testbed:universal", out=tmp_path / "run", **options)
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "tasks").rglob("*.json")}
    by_object = rl.audit(model, out=tmp_path / "run", **options)
    assert by_object.path == by_name.path
    assert {path: path.read_bytes() for path in (tmp_path / "run" / "tasks").rglob("*.json")} == before
    judged = rl.audit(model, out=tmp_path / "run", judge=length_judge, **options)
    verdicts = judged.table("verdicts").to_pylist()
    assert {row["judge"] for row in verdicts} == {as_judge(length_judge).name}
    kept = (path for path in before if path.parent.name == "completions")
    assert all(path.read_bytes() == before[path] for path in kept), "another judge leaves the answers alone"


class Notebook:
    """Stands for IPython in a notebook's kernel: keeps what a cell would show."""

    kernel = True

    def __init__(self) -> None:
        self.shown: list[str] = []

    def get_ipython(self) -> Notebook:
        return self

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> Notebook:
        assert raw and display_id
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(data["text/plain"])


def test_an_audit_in_a_notebook_shows_one_changing_line_and_elsewhere_only_when_asked(
    model: rl.LensModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def audit(progress: bool | None) -> None:
        rl.audit(model, out=tmp_path / "run", languages="en", limit=2, baseline_only=True, progress=progress)

    notebook = Notebook()
    with monkeypatch.context() as patch:
        for name in ("IPython", "IPython.display"):
            patch.setitem(sys.modules, name, notebook)
        patch.setattr(core_progress, "EVERY", 0.0)
        audit(None)
        assert any(
            line.startswith("running completions/baseline.en.harm") and "tokens" in line for line in notebook.shown
        )
        assert any(line.startswith("verdicts: 2 of 2 (") for line in notebook.shown)
        notebook.shown.clear()
        audit(False)
        assert notebook.shown == []
    audit(None)
    assert capsys.readouterr().err == ""
    audit(True)
    assert "verdicts: 2 of 2 (" in capsys.readouterr().err


def test_a_loaded_model_cannot_travel(model: rl.LensModel) -> None:
    from refusal_lens.config import AuditConfig

    tree = {"model": {"spec": "testbed:universal"}, "data": {"languages": ["en"]}, "transport": {"workers": 2}}
    with pytest.raises(UserError, match="in this process alone"):
        prepare(AuditConfig.model_validate(tree), model=model)
