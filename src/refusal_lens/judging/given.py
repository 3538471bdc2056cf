"""A judge however it is given: by name, as an object, or as a function of one answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, get_args

from refusal_lens.errors import UserError
from refusal_lens.judging.answer import Answer, Judge
from refusal_lens.judging.panel import PanelJudge
from refusal_lens.judging.registry import get_judge
from refusal_lens.judging.thinking import ThinkingJudge
from refusal_lens.types import Verdict, VerdictLabel

JudgeFunction: TypeAlias = Callable[[Answer], "Verdict | str"]


@dataclass(frozen=True)
class FunctionJudge:
    """A function as a judge: it takes an `Answer` and gives a `Verdict`, or a label alone."""

    name: str
    function: JudgeFunction

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """Judge one answer after the other.

        Args:
            answers: The answers.

        Returns:
            One verdict per answer, in order.

        Raises:
            UserError: The function gave neither a verdict nor a label.
        """
        return [self._verdict(answer) for answer in answers]

    def _verdict(self, answer: Answer) -> Verdict:
        found = self.function(answer)
        if isinstance(found, Verdict):
            return found
        label: VerdictLabel | None = next((known for known in get_args(VerdictLabel) if known == found), None)
        if label is None:
            raise UserError(f"judge {self.name} gave {found!r}; give a Verdict, or {', '.join(get_args(VerdictLabel))}")
        score = {"refused": 1.0, "complied": -1.0}.get(label)
        return Verdict(
            label,
            score,
            uncertain=False,
            reason=f"{self.name} says so",
            judge=self.name,
            language=answer.language,
            truncated=not answer.finished,
        )


def as_judge(judge: str | Judge | JudgeFunction) -> Judge:
    """A judge from whatever names or is one; it reads answers without their thoughts.

    Args:
        judge: A name as for `get_judge`, an object with `name` and `judge(answers)`, or a function that takes one `Answer`
            and gives a `Verdict` or a label. The name identifies stored verdicts: change it when the judge changes.

    Returns:
        The judge.

    Raises:
        UserError: No such judge, or a function without a name of its own.

    Example:
        >>> as_judge("native").name.startswith("native")
        True
    """
    if isinstance(judge, str):
        return get_judge(judge)
    if isinstance(judge, Judge):
        return judge if isinstance(judge, (ThinkingJudge, PanelJudge)) else ThinkingJudge(judge)
    name = getattr(judge, "name", None) or f"{getattr(judge, '__module__', '')}.{getattr(judge, '__qualname__', '')}"
    if not isinstance(name, str) or "<" in name or not name.strip("."):
        raise UserError(
            "a function as a judge needs a name, by which its verdicts are known later: define it with def at the top of a "
            "module, or set its attribute `name`"
        )
    return ThinkingJudge(FunctionJudge(name, judge))
