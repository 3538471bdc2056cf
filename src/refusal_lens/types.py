"""The nouns that every room shares: prompts, completions, verdicts, tasks.

Plain frozen dataclasses and literals; no behaviour beyond what a noun must say about itself, and no import of
torch, pyarrow or anything heavy: every room may import this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
else:
    JsonValue = object  # run-time checkers of annotations do not understand recursive aliases

Harm: TypeAlias = Literal["harmful", "harmless"]
Split: TypeAlias = Literal["train", "val", "test"]
VerdictLabel: TypeAlias = Literal["refused", "complied", "unscored"]
Reading: TypeAlias = Literal["refuse", "comply-harmful", "comply-benign", "invalid"]
Rule: TypeAlias = Literal["paper", "arditi"]

HARMS: tuple[Harm, ...] = ("harmful", "harmless")
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One instruction in one language.

    Attributes:
        prompt_id: Shared by all translations of the same instruction; verdicts pair by it.
        language: BCP-47 code, one of the loaded languages.
        harm: Class of the instruction.
        split: Which part of the prompt set it belongs to; selection and test prompts never share an id.
        text: The instruction as the user would type it, in `language`.
        prompt_set: Where it comes from, e.g. "polyrefuse", "testbed", "xstest", "file".
        english: The English original, where known.
        topic: What an on-topic answer must mention, in `language`; None where this cannot be checked.
        category: The source's own harm category, where given.
    """

    prompt_id: str
    language: str
    harm: Harm
    split: Split
    text: str
    prompt_set: str = "polyrefuse"
    english: str | None = None
    topic: str | None = None
    category: str | None = None

    @property
    def for_judge(self) -> str:
        """What a judge is shown of it beside an answer: the English original where known, which is what guards read best."""
        return self.english or self.text


@dataclass(frozen=True, slots=True)
class Evidence:
    """One phrase group that fired in an answer: the group's name and the character span [start, end)."""

    group: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge made of one answer.

    Attributes:
        label: `unscored` never counts as refused or complied.
        score: Signed, positive towards refusal; None when unscored.
        uncertain: The evidence for the verdict is mixed or thin.
        reason: Why unscored, or the short ground of the verdict.
        judge: Name and version of the judge.
        language: Language the answer was read in (BCP-47), None when unknown.
        off_language: The answer is in another known language than the prompt.
        truncated: The answer was cut at the token limit.
        reading: Four-way reading where the judge can give one.
        evidence: Phrase groups that decided.
        panel: Of a panel of judges, every judge's verdict, this one's first; empty where one judge alone spoke.
    """

    label: VerdictLabel
    score: float | None
    uncertain: bool
    reason: str
    judge: str
    language: str | None = None
    off_language: bool = False
    truncated: bool = False
    reading: Reading | None = None
    evidence: tuple[Evidence, ...] = ()
    panel: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work of a run: pure data, computable anywhere the run directory is reachable.

    Attributes:
        step: Name of the step that knows how to compute it.
        version: The step's code version; a new version makes old results stale.
        name: Unique within the step; lower-case words joined by dots, e.g. "ablation.en.de.harmful".
        params: The configuration fields it reads. They enter the key; transport knobs do not.
        inputs: Ids ("step/name") of the tasks whose outputs it reads. Their digests enter the key.
        needs_model: Whether a worker must hold the model to compute it.
    """

    step: str
    version: int
    name: str
    params: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    inputs: tuple[str, ...] = ()
    needs_model: bool = False

    @property
    def task_id(self) -> str:
        """`step/name`, unique within a run."""
        return f"{self.step}/{self.name}"

    @property
    def members(self) -> tuple[Task, ...]:
        """The task, and those that may be computed with it."""
        return (self,)


@dataclass(frozen=True, slots=True)
class TaskGroup(Task):
    """A task and others, all ready, that its worker may compute in the same go; one that knows no groups computes it alone.

    Attributes:
        others: What may be computed with it; each keeps its own key and result.
    """

    others: tuple[Task, ...] = ()

    @classmethod
    def of(cls, first: Task, others: Sequence[Task]) -> Task:
        """The group; the task itself where there are no others."""
        if not others:
            return first
        return cls(
            first.step, first.version, first.name, first.params, first.inputs, first.needs_model, others=tuple(others)
        )

    @property
    def members(self) -> tuple[Task, ...]:
        """The task alone, then the others."""
        return (
            Task(self.step, self.version, self.name, self.params, self.inputs, self.needs_model),
            *self.others,
        )


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a running task is: a share in [0, 1] of what it is at, and the same in words. Part of no result."""

    task_id: str
    share: float
    words: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: `done` (computed now), `cached` (valid result found) or `failed` (with the error's text).

    Of tasks computed together each took an equal part of the `seconds`, and `more` says how many outcomes follow at once.
    """

    task_id: str
    status: Literal["done", "cached", "failed"]
    seconds: float
    error: str | None = None
    more: int = 0
