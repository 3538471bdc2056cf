"""The cells of an audit by name: which direction is applied to which language's prompts, with which intervention.

Cells that differ in the direction alone share a generation pass as long as the pass holds no more answers than a shard:
a batch of a few prompts costs almost as much as one of many.

Directions are named as in `core.names`. Everything here is a pure function of the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import TypeAdapter

from refusal_lens.config import AuditConfig, DirectionConfig
from refusal_lens.core.interventions import DECLARED
from refusal_lens.core.names import BASELINE, POOLED, RANDOM, SHUFFLED, WITHOUT
from refusal_lens.types import HARMS, Harm, JsonValue

MANY_SOURCES = 4
"""From this many sources on, side effects (ablation on harmless, addition on harmful prompts) are measured for one of them
and at home only: they are a third of a matrix that nobody reads cell by cell."""


@dataclass(frozen=True)
class CellName:
    """One cell of an audit: an intervention from a source, on one language's prompts of one class and set.

    Attributes:
        source: Language or null direction; empty for the baseline.
        prompt_set: None for the main set.
    """

    intervention: str
    source: str
    language: str
    prompts: Harm
    prompt_set: str | None = None


class Pass(NamedTuple):
    """Cells answered together: one intervention from several directions, on the same prompts.

    Attributes:
        sources: Languages or null directions; one empty name for the baseline.
        prompt_set: None for the main set.
    """

    intervention: str
    sources: tuple[str, ...]
    language: str
    prompts: Harm
    prompt_set: str | None

    def task_name(self, shard: int) -> str:
        """Name of the pass's `completions` and `verdicts` tasks: its first source stands for all."""
        first, others = self.sources[0], len(self.sources) - 1
        named = f"{first}-and-{others}-more" if others else first
        parts = [self.intervention, named, self.language, self.prompts, self.prompt_set, str(shard)]
        return ".".join(part for part in parts if part)


def pass_of(value: JsonValue) -> Pass:
    """A pass from its JSON form, as it stands in a task's parameters."""
    return _PASS.validate_python(value)


_PASS = TypeAdapter(Pass)


def passes(config: AuditConfig, *, prompts_of: Callable[[CellName], int]) -> Iterator[Pass]:
    """The generation passes of an audit: every cell in exactly one.

    Args:
        config: The audit.
        prompts_of: Number of prompts of a cell.

    Yields:
        Passes; one of several sources holds at most `shard_size` answers. Cells without prompts are left out.
    """
    together: dict[tuple[str, str, Harm, str | None], list[CellName]] = {}
    for cell in cells(config):
        together.setdefault((cell.intervention, cell.language, cell.prompts, cell.prompt_set), []).append(cell)
    for (intervention, language, prompts, prompt_set), members in together.items():
        count = prompts_of(members[0])
        if not count:
            continue
        size = max(1, config.generation.shard_size // count)
        for start in range(0, len(members), size):
            sources = tuple(cell.source for cell in members[start : start + size])
            yield Pass(intervention, sources, language, prompts, prompt_set)


def cells(config: AuditConfig) -> Iterator[CellName]:
    """Every cell an audit asks for.

    Nulls and pools run only where the intervention is read (ablation on harmful, addition on harmless prompts) and on the
    main prompt set alone, and a pool without a language on that language alone. With `MANY_SOURCES` sources the other two
    combinations run for the usual source (or else the first) everywhere, and for the others in their own language; with
    `side_effects` off, for none.
    """
    sources = config.directions.sources
    main = next((source for source in DirectionConfig().sources if source in sources), sources[0])
    kinds: list[tuple[str, str, Harm, tuple[Harm, ...]]] = [(BASELINE, "", "harmful", HARMS)]
    for source in directions(config):
        for intervention in config.interventions.chosen:
            own = DECLARED[intervention].reads_on
            kinds.append((intervention, source, own, HARMS if source in sources else (own,)))
    for prompt_set in (None, *config.data.prompt_sets):
        for intervention, source, own, harms in kinds:
            if prompt_set is not None and source and source not in sources:
                continue
            for language in config.data.languages:
                if source.startswith(WITHOUT) and source != f"{WITHOUT}{language}":
                    continue
                usual = len(sources) < MANY_SOURCES or source in ("", main, language)
                both = not source or (usual and config.interventions.side_effects)
                for harm in harms if both else (own,):
                    yield CellName(intervention, source, language, harm, prompt_set)


def directions(config: AuditConfig) -> tuple[str, ...]:
    """Names of all directions an audit applies: the source languages, the pools, then the nulls; none for a baseline alone."""
    choice = config.directions
    if config.baseline_only:
        return ()
    shuffled = (SHUFFLED,) if choice.shuffled else ()
    return (*choice.sources, *pools(config), *(f"{RANDOM}{index}" for index in range(choice.random)), *shuffled)


def pools(config: AuditConfig) -> dict[str, tuple[str, ...]]:
    """Pooled directions and the sources each is the mean of: all of them, and all but one where three or more are left."""
    sources = config.directions.sources
    if config.baseline_only or not config.directions.pooled or len(sources) < 2:
        return {}
    made = {POOLED: tuple(sources)}
    if len(sources) > 2:
        left_out = [language for language in sources if language in config.data.languages]
        made |= {f"{WITHOUT}{out}": tuple(name for name in sources if name != out) for out in left_out}
    return made


def damaging(config: AuditConfig) -> tuple[str, ...]:
    """Directions whose damage is measured: sources, the pool of all, and one random direction to compare with."""
    return tuple(
        name for name in directions(config) if name == f"{RANDOM}0" or not name.startswith((WITHOUT, SHUFFLED, RANDOM))
    )
