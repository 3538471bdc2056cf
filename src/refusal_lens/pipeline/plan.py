"""From a configuration to the tasks of a run: a pure function, the same tasks for the same inputs.

    prompts -> tokens -> filtering -> candidates -> scores -> selection -> direction -> completions -> verdicts -> tables

A task's params hold exactly the configuration fields it reads, so a changed field makes only what depends on it stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refusal_lens.config import AuditConfig
from refusal_lens.pipeline.dataset import Dataset, all_languages, test_part
from refusal_lens.pipeline.steps import VERSIONS
from refusal_lens.types import HARMS, Harm, InterventionName, JsonValue, Task

RANDOM = "random-"


@dataclass(frozen=True)
class Identity:
    """Digests of what is not configuration: the model's files and the judge's language data."""

    model: str
    judge: str


@dataclass(frozen=True)
class CellName:
    """One cell of an audit: an intervention from a source, on one language's prompts of one class and set.

    Attributes:
        source: Language or null direction; empty for the baseline.
        prompt_set: None for the main set.
    """

    intervention: InterventionName
    source: str
    language: str
    prompts: Harm
    prompt_set: str | None = None

    def task_name(self, shard: int) -> str:
        """Name of the cell's `completions` and `verdicts` tasks."""
        parts = [self.intervention, self.source, self.language, self.prompts, self.prompt_set, str(shard)]
        return ".".join(part for part in parts if part)


def plan(config: AuditConfig, dataset: Dataset, identity: Identity) -> list[Task]:
    """All tasks of an audit, inputs before dependents.

    Args:
        config: The audit.
        dataset: Its prompts; only their digests and counts are read.
        identity: Digests of model and judge.

    Returns:
        Tasks in topological order.
    """
    return list(_Planner(config, dataset, identity).tasks())


def cells(config: AuditConfig) -> Iterator[CellName]:
    """Every cell an audit asks for: random directions only where a null is read (ablation on harmful, addition on harmless)."""
    kinds: list[tuple[InterventionName, str, tuple[Harm, ...]]] = [("baseline", "", HARMS)]
    for source in directions(config):
        null = is_null(source)
        if config.interventions.ablation:
            kinds.append(("ablation", source, ("harmful",) if null else HARMS))
        if config.interventions.addition:
            kinds.append(("addition", source, ("harmless",) if null else HARMS))
    for prompt_set in (None, *config.data.prompt_sets):
        for intervention, source, harms in kinds:
            for language in config.data.languages:
                for harm in harms:
                    yield CellName(intervention, source, language, harm, prompt_set)


def directions(config: AuditConfig) -> tuple[str, ...]:
    """Names of all directions an audit applies: the source languages, then the nulls."""
    return (*config.directions.sources, *(f"{RANDOM}{index}" for index in range(config.directions.random)))


def is_null(source: str) -> bool:
    """Whether a source is a null direction rather than a language or a pool of languages."""
    return source.startswith((RANDOM, "shuffled"))


class _Planner:
    def __init__(self, config: AuditConfig, dataset: Dataset, identity: Identity) -> None:
        self._config = config
        self._dataset = dataset
        self._identity = identity
        self._model: dict[str, JsonValue] = {"model": identity.model, "dtype": config.model.dtype}

    def tasks(self) -> Iterator[Task]:
        for part in sorted(self._dataset.parts):
            yield self._task("prompts", part, {"digest": self._dataset.digest(part)})
        for language in all_languages(self._config):
            yield from self._extraction(language)
        for source in self._config.directions.sources:
            yield from self._selection(source)
        yield from self._nulls()
        verdicts: list[str] = []
        for cell in cells(self._config):
            for task in self._cell(cell):
                if task.step == "verdicts":
                    verdicts.append(task.task_id)
                yield task
        yield from self._tables(verdicts)

    def _task(
        self,
        step: str,
        name: str,
        params: dict[str, JsonValue] | None = None,
        inputs: tuple[str, ...] = (),
        *,
        model: bool = False,
    ) -> Task:
        own = dict(params or {})
        if model:
            own |= self._model
        return Task(step, VERSIONS[step], name, own, inputs, needs_model=model)

    def _extraction(self, language: str) -> Iterator[Task]:
        prompts = f"prompts/{language}.select"
        yield self._task("tokens", language, {"judge": self._identity.judge}, (prompts,), model=True)
        yield self._task(
            "filtering",
            language,
            {"filter": self._config.directions.filter},
            (prompts, f"tokens/{language}"),
            model=True,
        )
        yield self._task("candidates", language, {}, (prompts, f"filtering/{language}"), model=True)

    def _selection(self, source: str) -> Iterator[Task]:
        choice = self._config.directions
        rule: dict[str, JsonValue] = {"rule": choice.rule, "kl_threshold": choice.kl_threshold}
        measured = (f"prompts/{source}.select", f"filtering/{source}", f"tokens/{source}", f"candidates/{source}")
        yield self._task("scores", source, {"mode": choice.mode, **rule}, measured, model=True)
        yield self._task("selection", source, rule, (f"scores/{source}", f"candidates/{source}"))
        yield self._task("direction", source, {}, (f"selection/{source}", f"candidates/{source}"))

    def _nulls(self) -> Iterator[Task]:
        real = tuple(f"direction/{source}" for source in self._config.directions.sources)
        for index in range(self._config.directions.random):
            yield self._task("direction", f"{RANDOM}{index}", {"seed": self._config.seed, "index": index}, real)

    def _cell(self, cell: CellName) -> Iterator[Task]:
        part = test_part(cell.language, cell.prompt_set)
        size = self._config.generation.shard_size
        for shard in range(-(-self._dataset.count(part, cell.prompts) // size)):
            name = cell.task_name(shard)
            generation = self._config.generation
            params: dict[str, JsonValue] = {
                "cell": [cell.intervention, cell.source, cell.language, cell.prompts, cell.prompt_set],
                "first": shard * size,
                "size": size,
                "max_new_tokens": generation.max_new_tokens,
            }
            if generation.stop_when_decided:
                params["stop_when_decided"] = self._identity.judge
            inputs = [f"prompts/{part}"]
            if cell.intervention != "baseline":
                inputs.append(f"direction/{cell.source}")
            if cell.intervention == "addition":
                params["coefficient"] = self._config.interventions.coefficient
            if cell.intervention == "ablation":
                params |= {"variant": self._config.interventions.variant, "affine": self._config.interventions.affine}
            yield self._task("completions", name, params, tuple(inputs), model=True)
            yield self._task(
                "verdicts",
                name,
                {"cell": params["cell"], "judge": self._identity.judge},
                (f"completions/{name}", f"prompts/{part}"),
            )

    def _tables(self, verdicts: list[str]) -> Iterator[Task]:
        config = self._config
        yield self._task("rates", "all", {}, tuple(verdicts))
        languages = all_languages(config)
        sources = config.directions.sources
        inputs = [f"{step}/{language}" for step in ("tokens", "filtering") for language in languages]
        inputs += [f"{step}/{source}" for step in ("scores", "selection") for source in sources]
        missing: list[JsonValue] = [
            [item.language, item.split, item.harm, item.prompt_set, item.why] for item in self._dataset.missing
        ]
        yield self._task("overview", "all", {"missing": missing}, tuple(inputs))
