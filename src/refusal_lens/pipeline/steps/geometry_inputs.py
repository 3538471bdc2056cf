"""What the `geometry` step works on: stored activations of all languages as numpy arrays, layer by layer, and baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from refusal_lens.geometry import LayerActivations, language_directions, unit_rows
from refusal_lens.measure import rate_of
from refusal_lens.pipeline.step import Inputs
from refusal_lens.pipeline.steps.activations import Part, Recorded
from refusal_lens.pipeline.steps.selection import Site, site_of, valid_sources
from refusal_lens.pipeline.steps.verdicts import SHARD
from refusal_lens.types import HARMS, Harm

EPSILON = {"float32": 0.0, "bfloat16": 2.0**-8, "float16": 2.0**-11}
FLOAT32_FLOOR = 1e-5


@dataclass(frozen=True)
class Measured:
    """Activations of one run.

    Attributes:
        site: Where the run looks.
        recorded: By language, in plan order.
        labels: Baseline verdict of harmful test prompts: language -> prompt id -> label.
        sources: Languages whose directions make the shared direction.
    """

    site: Site
    recorded: dict[str, Recorded]
    labels: dict[str, dict[str, str]]
    sources: tuple[str, ...]

    @classmethod
    def load(cls, inputs: Inputs) -> Measured:
        """Read the inputs of a `geometry` task."""
        recorded = {language: Recorded.load(inputs, task_id) for language, task_id in inputs.of("activations").items()}
        labels: dict[str, dict[str, str]] = {language: {} for language in recorded}
        for task_id in inputs.of("verdicts").values():
            for row in inputs.rows(SHARD, task_id):
                labels.setdefault(row["language"], {})[row["prompt_id"]] = row["label"]
        return cls(site_of(inputs), recorded, labels, valid_sources(inputs))

    @cached_property
    def n_layers(self) -> int:
        """Layers of the model."""
        return next(iter(self.recorded.values())).n_layers

    @cached_property
    def layer(self) -> int:
        """The layer the summary speaks of: the selected one, else the middle one."""
        return self.site.layer if self.site.layer is not None else self.n_layers // 2

    @cached_property
    def trained(self) -> tuple[str, ...]:
        """Languages with train prompts of both classes."""
        return tuple(code for code, item in self.recorded.items() if item.has("train"))

    @cached_property
    def tested(self) -> tuple[str, ...]:
        """Languages with test prompts (or stand-ins) of both classes."""
        return tuple(code for code, item in self.recorded.items() if item.has("test"))

    def parallel(self, layer: int, position: int) -> LayerActivations:
        """Train activations at one site, the same prompts in all languages."""
        return self._activations("train", self.trained, layer, position, self._parallel_ids)

    def own(self, part: Part, layer: int, position: int, languages: Sequence[str]) -> LayerActivations:
        """Activations at one site, each language with all of its own prompts."""
        return self._activations(part, tuple(languages), layer, position, None)

    def shared_direction(self, layer: int) -> Float64[np.ndarray, " d_model"] | None:
        """Mean of the sources' unit directions at the selected position; None where every one is zero."""
        chosen = [code for code in self.trained if code in self.sources] or list(self.trained)
        rows = language_directions(self.own("train", layer, self.site.position, chosen))
        if not rows.any():
            return None
        mean = np.nanmean(unit_rows(rows[rows.any(axis=1)]), axis=0)
        return mean if mean.any() else None

    def compliance(self, language: str) -> float:
        """Baseline compliance on harmful test prompts; NaN where nothing was scored."""
        return rate_of(self.labels.get(language, {}).values()).rate

    @cached_property
    def _parallel_ids(self) -> dict[Harm, dict[str, list[str]]]:
        return {
            harm: parallel_ids({code: self.recorded[code].ids[f"train.{harm}"] for code in self.trained})
            for harm in HARMS
        }

    def _activations(
        self,
        part: Part,
        languages: tuple[str, ...],
        layer: int,
        position: int,
        chosen: dict[Harm, dict[str, list[str]]] | None,
    ) -> LayerActivations:
        def rows(code: str, harm: Harm) -> np.ndarray:
            item = self.recorded[code]
            ids = item.ids[f"{part}.{harm}"] if chosen is None else chosen[harm][code]
            return item.rows(part, harm, position=position, layer=layer, ids=ids).numpy()

        made = {harm: [rows(code, harm) for code in languages] for harm in HARMS}
        n = min((len(array) for arrays in made.values() for array in arrays), default=1)
        epsilon = EPSILON[next(iter(self.recorded.values())).dtype]
        rounding = max(FLOAT32_FLOOR, 2 * epsilon / math.sqrt(max(n, 1)))
        return LayerActivations(languages, made["harmful"], made["harmless"], rounding)


def parallel_ids(ids: dict[str, list[str]]) -> dict[str, list[str]]:
    """The same prompts in every language, in one order.

    A language whose prompts are not translations of the others' (it shares less than half of its ids) keeps its own first
    ones, as many as the others have: resampling unrelated rows together is resampling them independently.

    Args:
        ids: Prompt ids by language.

    Returns:
        Equally many ids for every language.
    """
    overlap = {one: sum(len(set(ids[one]) & set(other)) for other in ids.values()) for one in ids}
    reference = max(ids, key=lambda code: overlap[code])
    group = [code for code in ids if 2 * len(set(ids[code]) & set(ids[reference])) >= len(ids[code])]
    everywhere = set(ids[reference]).intersection(*(ids[code] for code in group))
    common = [name for name in ids[reference] if name in everywhere]
    count = min([len(common), *(len(own) for code, own in ids.items() if code not in group)])
    return {code: (common if code in group else own)[:count] for code, own in ids.items()}
