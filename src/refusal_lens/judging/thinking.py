"""A judge that reads what a model answers, not what it thinks: the split of `core.thinking` before any other judge.

Thoughts that were cut, and thoughts without an answer after them, are unscored with that reason. Evidence is given at its
place in the model's whole output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from refusal_lens.core.thinking import CUT, NOTHING, Split, check_format, split_thinking
from refusal_lens.judging.answer import Answer, Judge, needs_prompt, unscored
from refusal_lens.judging.native import NativeJudge
from refusal_lens.types import Verdict, VerdictLabel


class ThinkingJudge:
    """A judge behind the split of thoughts and answer."""

    def __init__(self, judge: Judge, *, thinking: str = "auto") -> None:
        """Put the split before a judge.

        Args:
            judge: Who reads the answers.
            thinking: Format of the thoughts, see `core.thinking`.

        Raises:
            UserError: No such format.
        """
        self.inner = judge
        self.thinking = check_format(thinking)

    @property
    def name(self) -> str:
        """The inner judge's name, with the format where it is not `auto`."""
        return self.inner.name if self.thinking == "auto" else f"{self.inner.name} thinking={self.thinking}"

    @property
    def needs_prompt(self) -> bool:
        """Whether the inner judge cannot do without the prompt."""
        return needs_prompt(self.inner)

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Judge the answers without their thoughts.

        Args:
            answers: The answers, thoughts included.

        Returns:
            One verdict per answer, in order.
        """
        splits = [split_answer(answer, self.thinking) for answer in answers]
        read = [
            answer if split.answer == answer.text else replace(answer, text=split.answer)
            for answer, split in zip(answers, splits, strict=True)
            if split.answer is not None
        ]
        verdicts = iter(self.inner.judge(read) if read else [])
        return [
            self._named(next(verdicts), split)
            if split.answer is not None
            else unscored(answer, split.why or NOTHING, judge=self.name)
            for answer, split in zip(answers, splits, strict=True)
        ]

    def _named(self, verdict: Verdict, split: Split) -> Verdict:
        if len(split.pieces) == 1 and split.pieces[0][0] == 0 and verdict.judge == self.name:
            return verdict  # nothing was split off before the answer
        evidence = tuple(
            replace(item, start=split.place(item.start), end=split.place(item.end)) for item in verdict.evidence
        )
        return replace(verdict, evidence=evidence, judge=self.name)


def split_answer(answer: Answer, thinking: str) -> Split:
    """Thoughts and answer of what a model wrote; thoughts that came apart from it are known already.

    Args:
        answer: What the model wrote.
        thinking: Format of the thoughts.

    Returns:
        The split.
    """
    found = split_thinking(answer.text, thinking, opened=answer.opened)
    if answer.reasoning is None or found.answer is None or answer.text.strip():
        return found
    return Split(answer.reasoning, None, NOTHING if answer.finished else CUT)


def thinking_of(judge: Judge) -> str:
    """The format of thoughts that a judge splits off; it says so by an attribute `thinking`, otherwise `auto`."""
    return str(getattr(judge, "thinking", "auto"))


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model wrote, read whole: the judge's verdict, the answer without thoughts, what its thoughts alone say."""

    verdict: Verdict
    answer: str
    thoughts: VerdictLabel | None


def judge_whole(judge: Judge, answers: Sequence[Answer]) -> list[Judged]:
    """Judge answers, and their thoughts apart from them by the native judge, whoever reads the answers.

    Args:
        judge: Who reads the answers.
        answers: What the model wrote, thoughts included.

    Returns:
        One each, in order; `thoughts` is None where there are none.
    """
    verdicts = judge.judge(answers)
    splits = [split_answer(answer, thinking_of(judge)) for answer in answers]
    thoughts = [
        Answer(text=split.reasoning, language=answer.language)
        for answer, split in zip(answers, splits, strict=True)
        if split.reasoning
    ]
    labels = iter(NativeJudge().judge(thoughts))
    return [
        Judged(verdict, split.answer or "", next(labels).label if split.reasoning else None)
        for verdict, split in zip(verdicts, splits, strict=True)
    ]
