"""What a step's `plan` sees: the configuration, the prompts' counts and digests, and what the steps before it planned.

Only in planning does configuration meet a step. What a task needs of it stands in the task's parameters afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from refusal_lens.config import AuditConfig
from refusal_lens.pipeline.dataset import Dataset, all_languages, test_part
from refusal_lens.types import Harm, Task


@dataclass(frozen=True)
class Identity:
    """What identifies the tools of an audit: digests of the models' files, and the judge's name with its version."""

    model: str
    judge: str
    base: str | None = None


@dataclass(frozen=True)
class Planning:
    """A plan in the making.

    Attributes:
        config: The audit; its number format is resolved.
        dataset: Its prompts; only their digests and counts are read.
        planned: Tasks of the steps so far.
    """

    config: AuditConfig
    dataset: Dataset
    planned: list[Task] = field(default_factory=list[Task])

    @property
    def languages(self) -> tuple[str, ...]:
        """Target and source languages, whose selection prompts are read; none for a baseline alone."""
        return () if self.config.baseline_only else all_languages(self.config)

    @property
    def sources(self) -> tuple[str, ...]:
        """Languages that directions are taken from; none for a baseline alone."""
        return () if self.config.baseline_only else self.config.directions.sources

    @property
    def extracted(self) -> tuple[str, ...]:
        """Languages whose own candidates are extracted: all where geometry compares them, otherwise the sources alone."""
        return self.languages if self.config.geometry.enabled else self.sources

    def tasks(self, step: str) -> list[Task]:
        """The tasks planned of an earlier step."""
        return [task for task in self.planned if task.step == step]

    def ids(self, *steps: str) -> tuple[str, ...]:
        """Ids of the tasks planned of earlier steps."""
        return tuple(task.task_id for step in steps for task in self.tasks(step))

    def baseline(self, step: str, language: str, harm: Harm) -> tuple[str, ...]:
        """Ids of the `completions` or `verdicts` of the untouched model on a language's main prompt set."""
        wanted = ["baseline", [""], language, harm, None]
        return tuple(task.task_id for task in self.tasks(step) if task.params["cells"] == wanted)

    def parts(self, language: str) -> tuple[str, ...]:
        """Ids of the `prompts` tasks of a language's selection and main test prompts, as far as there are any."""
        names = (f"{language}.select", test_part(language))
        return tuple(f"prompts/{name}" for name in names if name in self.dataset.parts)
