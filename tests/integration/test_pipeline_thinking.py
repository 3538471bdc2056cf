"""Models whose template opens the thoughts: nothing reads the thoughts for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from refusal_lens import discover_refusal_tokens, generate, get_judge, load_model, open_run
from refusal_lens.config import AuditConfig, parse_config
from refusal_lens.core.thinking import CUT
from refusal_lens.errors import RunError, UserError
from refusal_lens.judging import Answer
from refusal_lens.model import Generated, LensModel
from refusal_lens.pipeline import prepare, run_audit
from refusal_lens.pipeline.steps import answering, completions
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue, Prompt, Verdict, VerdictLabel
from tiny_models import TEMPLATE, build, tokenizer

OPENS = TEMPLATE.replace("assistant\n' }}", "assistant\n<think>\n' }}")
EMPTY = TEMPLATE.replace("assistant\n' }}", "assistant\n<think>\n\n</think>\n\n' }}")
REFUSAL = "I'm sorry, but I can't help with that. It is illegal and harmful."
HOW = Prompt(prompt_id="p", language="en", harm="harmful", split="test", text="How?")
HELP = "Sure, here is how. First take a bowl, then mix the flour and water for the bread."


def template(folder: Path, text: str) -> str:
    file = folder / "template.jinja"
    file.write_text(text, encoding="utf-8")
    return str(file)


def settings(folder: Path, text: str, **changes: JsonValue) -> AuditConfig:
    tree: dict[str, JsonValue] = {
        "model": {"spec": "testbed:universal", "chat_template": template(folder, text)},
        "data": {"languages": ["en"], "limit": 3},
        "generation": {"max_new_tokens": 16},
        "baseline_only": True,
        **changes,
    }
    return parse_config(tree, where="test")


def audited(config: AuditConfig, out: Path) -> list[dict[str, object]]:
    return open_run(run_audit(prepare(config), out).path).table("verdicts").to_pylist()


def writing(monkeypatch: pytest.MonkeyPatch, text: str, *, opened: bool) -> None:
    """Let the model of an audit write this text, whatever it is asked."""

    def written(_model: LensModel, instructions: Sequence[str], **_options: object) -> list[Generated]:
        return [Generated(text, (1,), finished=True, opened=opened) for _ in instructions]

    monkeypatch.setattr(answering, "generate", written)


@pytest.mark.slow
def test_thoughts_that_the_template_opened_and_nothing_closed_are_unscored(tmp_path: Path) -> None:
    """Seen from the text alone such an answer is all answer, and what the model weighs is its verdict."""
    rows = audited(settings(tmp_path, OPENS), tmp_path / "run")
    assert {(row["label"], row["reason"]) for row in rows} == {("unscored", CUT)}


@pytest.mark.slow
def test_an_empty_block_in_the_template_opens_nothing(tmp_path: Path) -> None:
    rows = audited(settings(tmp_path, EMPTY), tmp_path / "run")
    assert CUT not in {row["reason"] for row in rows} and {row["thoughts"] for row in rows} == {None}


@pytest.mark.slow
def test_after_the_closing_mark_stands_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing(monkeypatch, f"{HELP}\n</think>\n\n{REFUSAL}", opened=True)
    assert {row["label"] for row in audited(settings(tmp_path, OPENS), tmp_path / "refused")} == {"refused"}
    writing(monkeypatch, f"{REFUSAL}\n</think>\n\n{HELP}", opened=True)
    rows = audited(settings(tmp_path, OPENS), tmp_path / "complied")
    assert {(row["label"], row["thoughts"]) for row in rows} == {("complied", "refused")}


@pytest.mark.slow
def test_thinking_format_of_an_audit_reaches_its_judge_and_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing(monkeypatch, f"{REFUSAL}\n== ANSWER ==\n{HELP}", opened=False)
    plain, told = settings(tmp_path, TEMPLATE), settings(tmp_path, TEMPLATE, thinking_format=".*== ANSWER ==")
    assert {row["label"] for row in audited(plain, tmp_path / "plain")} == {"refused"}
    assert {row["label"] for row in audited(told, tmp_path / "told")} == {"complied"}
    assert prepare(told).identity.judge == f"{prepare(plain).identity.judge} thinking=.*== ANSWER =="
    with pytest.raises(UserError, match="thinking format"):
        prepare(settings(tmp_path, TEMPLATE, thinking_format="thoughts"))


def test_stop_rule_decides_nothing_inside_thoughts_that_the_template_opened() -> None:
    judge = get_judge("native")
    stop = completions.Stopping(judge, "en", [HOW, HOW], [True, False], frozenset())
    assert not stop(0, REFUSAL) and stop(1, REFUSAL)
    assert stop(0, f"Hm.\n</think>\n{REFUSAL}")


class _RefusesAll:
    """Calls every answer of a harmful prompt a refusal, thoughts or not."""

    name = "test 1"

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        labels: list[VerdictLabel] = [
            "refused" if str(item.prompt).startswith("bad") else "complied" for item in answers
        ]
        return [Verdict(label=label, score=None, uncertain=False, reason="", judge=self.name) for label in labels]


def test_refusal_tokens_are_never_first_tokens_of_thoughts(tmp_path: Path) -> None:
    """The token after `<think>` opens the thoughts; scored as a refusal's first word it means nothing."""
    folder = build("llama", tmp_path / "llama")
    bad, good = [f"bad {number}" for number in range(6)], [f"good {number}" for number in range(6)]
    model = load_model(str(folder), chat_template=Path(template(tmp_path, OPENS)))
    found = discover_refusal_tokens(model, bad, good, language="en", judge=_RefusesAll(), max_new_tokens=2)
    assert found.ids == () and "thinks before it answers (12 of 12" in str(found.reason)
    assert "--thinking off" in str(found.reason)
    model = load_model(str(folder), chat_template=Path(template(tmp_path, EMPTY)))
    found = discover_refusal_tokens(model, bad, good, language="en", judge=_RefusesAll(), max_new_tokens=2)
    assert found.refused == 6 and "thinks" not in str(found.reason)


def test_answers_say_whether_their_prompt_opened_thoughts(tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "llama")
    for text, opened in ((OPENS, True), (EMPTY, False), (TEMPLATE, False)):
        model = load_model(str(folder), chat_template=Path(template(tmp_path, text)))
        (answer,) = generate(model, ["Tell me a story about <think>"], max_new_tokens=1)
        assert answer.opened is opened


def test_marks_of_thoughts_that_are_special_tokens_survive_decoding() -> None:
    """`[THINK]` and harmony's channels are special tokens of their models; without them thoughts and answer run together."""
    from refusal_lens.core.thinking import split_thinking
    from refusal_lens.model.thoughts import decode_answer

    made = tokenizer()
    marks = ["[THINK]", "[/THINK]", "<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|return|>"]
    made.add_special_tokens({"extra_special_tokens": marks}, replace_extra_special_tokens=False)

    def written(text: str) -> str:
        return decode_answer(made, made.encode(text, add_special_tokens=False))

    assert split_thinking(written("[THINK]I cannot.[/THINK]Sure, here it is.<|im_end|>"))[:2] == (
        "I cannot.",
        "Sure, here it is.",
    )
    harmony = (
        "<|channel|>analysis<|message|>I cannot.<|end|><|start|>assistant<|channel|>final<|message|>Sure.<|return|>"
    )
    assert split_thinking(written(harmony))[:2] == ("I cannot.", "Sure.")
    assert written("Sure.<|im_end|>") == "Sure."


def test_end_of_turn_token_is_no_mark_where_there_are_no_channels() -> None:
    """Phi's `<|end|>` ends its turn; kept as harmony's it would stand in every answer."""
    from refusal_lens.model.thoughts import decode_answer

    made = tokenizer()
    made.add_special_tokens({"extra_special_tokens": ["<|end|>", "<think>"]}, replace_extra_special_tokens=False)
    ids = made.encode("<think>Hm.</think>Sure.<|end|>", add_special_tokens=False)
    assert decode_answer(made, ids) == "<think>Hm.</think>Sure."


SWITCHED = TEMPLATE.replace(
    "{{ '<|im_start|>assistant\n' }}",
    "<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
)


def _switched(folder: Path, text: str, thinking: str) -> AuditConfig:
    spec = {"spec": "testbed:universal", "chat_template": template(folder, text), "thinking": thinking}
    return settings(folder, text, model=spec)


def test_an_audit_turns_thinking_off_and_says_so(tmp_path: Path) -> None:
    """Results of one setting must not be taken for those of the other."""
    off, auto = (prepare(_switched(tmp_path, SWITCHED, thinking)) for thinking in ("off", "auto"))
    assert off.identity.model != auto.identity.model
    run = run_audit(off, tmp_path / "run").path
    header = RunDir.open(run).header
    assert header["checks"]["thinking"] == "off" and header["config"]["model"]["thinking"] == "off"
    with pytest.raises(RunError, match="with other files"):
        run_audit(auto, tmp_path / "run")


def test_a_template_without_a_switch_cannot_be_switched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no switch for thinking"):
        prepare(_switched(tmp_path, TEMPLATE, "off"))
