"""`--stop-when-decided`: one answer in twenty is written in full all the same, and what that shows is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from refusal_lens.core.names import BASELINE
from refusal_lens.judging import Answer
from refusal_lens.pipeline.cells import Pass
from refusal_lens.pipeline.step import Inputs, Kit, Rows, Tools
from refusal_lens.pipeline.steps import rates, verdicts
from refusal_lens.pipeline.steps.answering import Stopping, in_sample
from refusal_lens.pipeline.steps.completions import SHARES, CompletionRow
from refusal_lens.pipeline.steps.completions import TABLE as COMPLETIONS
from refusal_lens.pipeline.steps.prompts import TABLE as PROMPTS
from refusal_lens.pipeline.steps.prompts import PromptRow
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
        source="en",
        prompt_id="p",
        text="x",
        n_tokens=1,
        finished=True,
        opened=False,
        stopped=False,
        decided_early=early,
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


def test_an_answer_that_the_rule_ended_is_not_cut_at_the_limit(tmp_path: Path) -> None:
    """Four answers: to its own end, ended by the rule, written in full as a check, cut at the limit."""
    prompts = [PromptRow(prompt_id=f"p{n}", language="en", harm="harmful", split="test", text="How?", prompt_set="own",
                         english=None, topic=None, category=None) for n in range(4)]  # fmt: skip
    texts = ["no.", "no", "no, but here it is", "here it is and it goes on"]
    finished, stopped = (True, False, False, False), (False, True, False, False)
    written = [
        CompletionRow(source="", prompt_id=f"p{n}", text=text, n_tokens=9, finished=finished[n], opened=False,
                      stopped=stopped[n], decided_early=n == 2) for n, text in enumerate(texts)
    ]  # fmt: skip
    files: dict[str, dict[str, Path]] = {}
    for task_id, table, rows in (("prompts/en", PROMPTS, prompts), ("completions/a", COMPLETIONS, written)):
        folder = tmp_path / task_id.partition("/")[0]
        folder.mkdir()
        table.write(folder, rows)
        SHARES.write(folder, [])
        files[task_id] = {file.name: file for file in folder.iterdir()}
    kit = Kit(*[lambda *_: None] * 2, judge=Cutting, prompts=lambda _: ())  # type: ignore[arg-type]
    params = verdicts.Params(Pass(BASELINE, ("",), "en", "harmful", None), "native")
    outputs = verdicts.compute(params, Inputs(files), Tools(kit, ("judge",)))
    judged = tmp_path / "verdicts"
    judged.mkdir()
    for output in outputs:
        output.write(judged)
    read = Inputs({"verdicts/a": {file.name: file for file in judged.iterdir()}})
    found = rates.compute(rates.Params(), read, Tools(kit, ()))
    tables = {output.table.name: output.rows for output in found if isinstance(output, Rows)}
    assert [row["truncated"] for row in tables["verdicts"]] == [False, False, True, True]
    assert [row["truncated"] for row in tables["rates"]] == [2]
    assert [(row["stopped"], row["checked"], row["changed"]) for row in tables["early_stops"]] == [(1, 1, 0)]


class Cutting(Eager):
    """As every judge: what did not come to its end is truncated."""

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [
            replace(verdict, truncated=not answer.finished)
            for verdict, answer in zip(super().judge(answers), answers, strict=True)
        ]
