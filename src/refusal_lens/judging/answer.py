"""What a judge reads: one answer, and the protocol every judge keeps.

A judge returns exactly one verdict per answer, in order, and never raises because of what an answer says: what cannot
be judged is `unscored` with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from refusal_lens.types import Verdict

NO_REPLY = "no reply: "
"""How the reason of a mark begins that stands for a judge's failure and is no verdict."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to judge.

    Attributes:
        text: The model's words. Untrusted.
        language: BCP-47 code of the prompt's language.
        prompt: The instruction, where the judge needs it.
        finished: False when the answer was cut at the token limit.
        reasoning: The model's thoughts, where they came apart from the text.
        opened: The prompt ended inside an opened block of thoughts, so the text begins with thoughts.
    """

    text: str
    language: str
    prompt: str | None = None
    finished: bool = True
    reasoning: str | None = None
    opened: bool = False


@runtime_checkable
class Judge(Protocol):
    """Anything that turns answers into verdicts.

    Attributes:
        name: Name and version; enters a run's keys, so it must change whenever verdicts can change.
    """

    @property
    def name(self) -> str:
        """Name and version of the judge."""
        ...

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """One verdict per answer, in order."""
        ...


def needs_prompt(judge: Judge) -> bool:
    """Whether a judge cannot do without the prompt; it says so by an attribute `needs_prompt`."""
    return bool(getattr(judge, "needs_prompt", False))


def unscored(answer: Answer, reason: str, *, judge: str) -> Verdict:
    """The verdict on an answer that cannot be judged.

    Args:
        answer: The answer.
        reason: Why not.
        judge: Name of the judge.

    Returns:
        Neither refused nor complied, without a score.
    """
    return Verdict(
        label="unscored",
        score=None,
        uncertain=False,
        reason=reason,
        judge=judge,
        truncated=not answer.finished,
        reading="invalid",
    )
