"""From a configuration to the tasks of a run: a pure function, the same tasks for the same inputs.

    prompts -> tokens -> filtering -> candidates -> scores -> selection -> direction -> completions -> verdicts -> tables

A task's params hold exactly the configuration fields it reads, so a changed field makes only what depends on it stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refusal_lens.config import AuditConfig
from refusal_lens.core.names import RANDOM, SHUFFLED
from refusal_lens.pipeline.cells import Pass, damaging, passes, pools
from refusal_lens.pipeline.dataset import Dataset, all_languages, test_part
from refusal_lens.pipeline.steps import VERSIONS
from refusal_lens.types import Harm, JsonValue, Task

DAMAGE_PROMPTS = 32


@dataclass(frozen=True)
class Identity:
    """Digests of what is not configuration: the model's files and the judge's language data."""

    model: str
    judge: str
    base: str | None = None


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
        yield from self._pools()
        yield from self._nulls()
        made: list[Task] = []
        for shared in passes(
            self._config, prompts_of=lambda cell: self._count(cell.language, cell.prompts, cell.prompt_set)
        ):
            made += self._pass(shared)
        yield from made
        verdicts = [task.task_id for task in made if task.step == "verdicts"]
        yield from self._tables(verdicts)
        yield from self._universality(made)
        if self._config.geometry.enabled:
            yield from self._geometry(made)

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
        mode = choice.mode if choice.mode == "race" else "full" if choice.full_sweep else "exact"
        yield self._task("scores", source, {"mode": mode, **rule}, measured, model=True)
        yield self._task("selection", source, rule, (f"scores/{source}", f"candidates/{source}"))
        yield self._task("direction", source, {}, (f"selection/{source}", f"candidates/{source}"))

    def _nulls(self) -> Iterator[Task]:
        real = tuple(f"direction/{source}" for source in self._config.directions.sources)
        for index in range(self._config.directions.random):
            yield self._task("direction", f"{RANDOM}{index}", {"seed": self._config.seed, "index": index}, real)
        if self._config.directions.shuffled:
            sources = self._config.directions.sources
            read = tuple(item for source in sources for item in (f"prompts/{source}.select", f"filtering/{source}"))
            params: dict[str, JsonValue] = {"seed": self._config.seed, "shuffled": True}
            yield self._task("direction", SHUFFLED, params, (*real, *read), model=True)

    def _pools(self) -> Iterator[Task]:
        for name, members in pools(self._config).items():
            inputs = tuple(f"{step}/{source}" for source in members for step in ("direction", "candidates"))
            yield self._task("direction", name, {"pool": list[JsonValue](members)}, inputs)

    def _count(self, language: str, harm: Harm, prompt_set: str | None) -> int:
        return self._dataset.count(test_part(language, prompt_set), harm)

    def _pass(self, shared: Pass) -> Iterator[Task]:
        part = test_part(shared.language, shared.prompt_set)
        size = self._config.generation.shard_size
        for shard in range(-(-self._count(shared.language, shared.prompts, shared.prompt_set) // size)):
            name = shared.task_name(shard)
            generation = self._config.generation
            sources: list[JsonValue] = list(shared.sources)
            params: dict[str, JsonValue] = {
                "cells": [shared.intervention, sources, shared.language, shared.prompts, shared.prompt_set],
                "first": shard * size,
                "size": size,
                "max_new_tokens": generation.max_new_tokens,
            }
            if generation.stop_when_decided:
                params["stop_when_decided"] = self._identity.judge
            inputs = [f"prompts/{part}"]
            if shared.intervention != "baseline":
                inputs += [f"direction/{source}" for source in shared.sources]
            if shared.intervention == "addition":
                params["coefficient"] = self._config.interventions.coefficient
            if shared.intervention == "ablation":
                params |= {"variant": self._config.interventions.variant, "affine": self._config.interventions.affine}
            yield self._task("completions", name, params, tuple(inputs), model=True)
            yield self._task(
                "verdicts",
                name,
                {"cells": params["cells"], "judge": self._identity.judge},
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

    def _universality(self, made: list[Task]) -> Iterator[Task]:
        config = self._config
        damage: list[str] = []
        for language in config.data.languages if config.interventions.ablation else ():
            answers = tuple(f"completions/{task.name}" for task in made if _is_baseline(task, language, "harmless"))
            if not answers:
                continue
            options = config.interventions
            params: dict[str, JsonValue] = {
                "prompts": DAMAGE_PROMPTS,
                "variant": options.variant,
                "affine": options.affine,
            }
            inputs = (f"prompts/{test_part(language)}", *answers, *(f"direction/{name}" for name in damaging(config)))
            yield self._task("damage", language, params, inputs, model=True)
            damage.append(f"damage/{language}")
        parts = tuple(f"prompts/{part}" for part in sorted(self._dataset.parts) if ".test" in part)
        cells_made = tuple(task.task_id for task in made)
        sources = tuple(f"direction/{source}" for source in config.directions.sources)
        yield self._task("universality", "all", {"seed": config.seed}, (*parts, *cells_made, *sources, *damage))

    def _geometry(self, made: list[Task]) -> Iterator[Task]:
        config = self._config
        options = config.geometry
        sources = config.directions.sources
        selections = tuple(f"selection/{source}" for source in sources)
        size: dict[str, JsonValue] = {"prompts": options.prompts_per_class}
        languages = all_languages(config)
        for language in languages:
            parts = [f"{language}.select", test_part(language)]
            inputs = tuple(f"prompts/{part}" for part in parts if part in self._dataset.parts)
            yield self._task("activations", language, dict(size), (*inputs, *selections), model=True)
        for source in sources:
            read = tuple(f"{step}/{source}" for step in ("filtering", "tokens", "candidates", "selection"))
            yield self._task("stability", source, {}, (f"prompts/{source}.select", *read), model=True)
        base: tuple[str, ...] = ()
        if options.base is not None:
            prompts = tuple(f"prompts/{language}.select" for language in languages)
            named: dict[str, JsonValue] = {"base": options.base, "base_digest": self._identity.base, **size}
            yield self._task("base", "cosines", named, (*prompts, *selections), model=True)
            base = ("base/cosines",)
        baseline = [task for task in made if any(_is_baseline(task, code, "harmful") for code in languages)]
        verdicts = tuple(task.task_id for task in baseline)
        recorded = tuple(f"activations/{language}" for language in languages)
        stability = tuple(f"stability/{source}" for source in sources)
        params: dict[str, JsonValue] = {
            "bootstrap": options.bootstrap,
            "permutations": options.permutations,
            "seed": config.seed,
        }
        yield self._task("geometry", "all", params, (*recorded, *selections, *stability, *base, *verdicts))


def _is_baseline(task: Task, language: str, harm: Harm) -> bool:
    """Whether a task holds verdicts on the untouched model's answers to a language's main prompt set."""
    return task.params.get("cells") == ["baseline", [""], language, harm, None] and task.step == "verdicts"
