"""`--stop-when-decided`: one answer in twenty is written in full all the same, and what that shows is counted."""

from __future__ import annotations

from collections.abc import Sequence

from refusal_lens.judging import Answer
from refusal_lens.pipeline.steps.completions import CompletionRow, Stopping, in_sample
from refusal_lens.pipeline.steps.verdicts import early_stops
from refusal_lens.types import Prompt, Verdict


class Eager:
    """Sure of a refusal as soon as "no" is written; unsure of "hm"."""

    name = "eager"

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [
            Verdict(label="refused" if "no" in answer.text or "hm" in answer.text else "complied", score=1.0, judge="eager",
                    uncertain="hm" in answer.text, reason="")
            for answer in answers
        ]  # fmt: skip


def test_one_prompt_in_twenty_is_in_the_sample_whatever_the_run() -> None:
    chosen = [number for number in range(20_000) if in_sample("en", f"p{number}")]
    assert 900 < len(chosen) < 1_100
    assert chosen == [number for number in range(20_000) if in_sample("en", f"p{number}")]
    assert chosen != [number for number in range(20_000) if in_sample("de", f"p{number}")]


def test_sampled_answers_are_never_stopped_and_remembered() -> None:
    stop = Stopping(Eager(), "en", [_prompt(text) for text in "abc"], [False] * 3, {1})
    assert [stop(row, "no, I") for row in range(3)] == [True, False, True]
    assert [stop(row, "hm") for row in range(3)] == [False] * 3, "not certain"
    assert stop.early == {1}
    assert not stop(1, "no, but"), "asked again at later tokens"


def test_the_rule_shows_the_judge_the_question_that_the_verdict_is_made_with() -> None:
    """The English original where it is known, not the translation that the model read."""
    seen: list[str | None] = []

    class Watching(Eager):
        def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
            seen.extend(answer.prompt for answer in answers)
            return super().judge(answers)

    prompts = [_prompt("Wie?", english="How?"), _prompt("Wo?")]
    stop = Stopping(Watching(), "de", prompts, [False] * 2, frozenset())
    assert stop(0, "no") and stop(1, "no")
    assert seen == ["How?", "Wo?"] == [prompt.for_judge for prompt in prompts]


def _prompt(text: str, *, english: str | None = None) -> Prompt:
    return Prompt(prompt_id=text, language="de", harm="harmful", split="test", text=text, english=english)


def _written(early: bool | None) -> CompletionRow:
    return CompletionRow(
        source="en", prompt_id="p", text="x", n_tokens=1, finished=True, opened=False, decided_early=early
    )


def test_a_verdict_that_changed_after_the_stop_is_counted() -> None:
    def verdict(label: str) -> dict[str, object]:
        cell = {"intervention": "ablation", "source": "en", "language": "de", "prompts": "harmful", "prompt_set": None}
        return {**cell, "label": label}

    labels = ["refused", "complied", "unscored", "complied", "refused"]
    early = [True, True, True, False, False]
    (row,) = early_stops([verdict(label) for label in labels], [_written(each) for each in early])
    assert (row["checked"], row["changed"]) == (3, 2)
    assert early_stops([verdict("refused")], [_written(None)]) == [], "no rule, nothing to say"
