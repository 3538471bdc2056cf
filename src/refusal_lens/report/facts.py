"""What the numbers of a run say, before anybody draws or words them: one record per language, and the run's main facts.

The headline uses one source of directions: the usual one (the default of `--sources`) if it has a valid direction,
else the first that has. Other sources appear
in the transfer matrix. Means over languages weigh every language equally.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from refusal_lens.config import DirectionConfig
from refusal_lens.core.names import RANDOM, is_null
from refusal_lens.core.tables import TRANSFER
from refusal_lens.errors import UserError
from refusal_lens.languages import get_language
from refusal_lens.measure import raised
from refusal_lens.report.inputs import Row, RunInputs, real_of, text_of
from refusal_lens.report.shares import NullShare, Share, mean, share_of
from refusal_lens.types import JsonValue

TIERS = {"high": 0, "medium": 1, "low": 2}
SELECTED = "selected"


@dataclass(frozen=True)
class HeadlineRow:
    """One language of the headline table.

    Harmful columns count compliance, harmless columns count refusals; None where the run has no such cell.

    Attributes:
        language: BCP-47 code.
        name: English name.
        tier: Resource tier: high, medium, low, or empty.
        harmful_baseline: Harmful prompts answered by the untouched model.
        harmful_ablated: The same with the direction ablated.
        harmful_random: The same with random directions ablated.
        harmful_added: The same with the direction added.
        harmless_baseline: Harmless prompts refused by the untouched model.
        harmless_added: The same with the direction added.
        harmless_random: The same with random directions added.
        harmless_ablated: The same with the direction ablated.
    """

    language: str
    name: str
    tier: str
    harmful_baseline: Share | None
    harmful_ablated: Share | None
    harmful_random: NullShare | None
    harmful_added: Share | None
    harmless_baseline: Share | None
    harmless_added: Share | None
    harmless_random: NullShare | None
    harmless_ablated: Share | None


@dataclass(frozen=True)
class Facts:
    """The run's numbers, arranged."""

    inputs: RunInputs

    @cached_property
    def config(self) -> Mapping[str, JsonValue]:
        """The audit's configuration; empty when the header has none."""
        return as_map(self.inputs.header.get("config"))

    def setting(self, section: str, name: str) -> JsonValue:
        """One field of the configuration; None when absent."""
        return as_map(self.config.get(section)).get(name)

    @cached_property
    def model(self) -> str:
        """The model as it was named."""
        return str(self.setting("model", "spec") or "unknown model")

    @cached_property
    def extra_sets(self) -> tuple[str, ...]:
        """Names of further prompt sets beside the main one: those configured, then others that `rates` holds."""
        measured = (text_of(row, "prompt_set") for row in self.inputs.rows("rates"))
        others = (name for name in measured if name and name not in self._main_sets.values())
        return tuple(dict.fromkeys([*words(self.setting("data", "prompt_sets")), *others]))

    @cached_property
    def selection(self) -> Mapping[str, Row]:
        """Row of the table `selection` by source."""
        return {text_of(row, "source"): row for row in self.inputs.rows("selection")}

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Source languages in configured order, then others that the tables name."""
        known = list(dict.fromkeys([*words(self.setting("directions", "sources")), *self.selection]))
        return tuple(known or dict.fromkeys(source for source, *_ in self.cells if source and not is_null(source)))

    @cached_property
    def valid_sources(self) -> tuple[str, ...]:
        """Sources with a selected direction; without a selection table, those with measured cells."""
        if self.selection:
            return tuple(
                source
                for source in self.sources
                if source in self.selection and text_of(self.selection[source], "status") == SELECTED
            )
        return tuple(dict.fromkeys(source for source, *_ in self.cells if source and not is_null(source)))

    @cached_property
    def main_source(self) -> str | None:
        """The source the headline speaks of: the usual one if it has a direction; None without any valid direction."""
        usual = [source for source in DirectionConfig().sources if source in self.valid_sources]
        return next(iter([*usual, *self.valid_sources]), None)

    @cached_property
    def cells(self) -> Mapping[tuple[str, str, str, str], Share]:
        """Compliance by (source, intervention, language, prompts) on the main prompt set."""
        return {cell_key(row): share_of(row) for row in self.main_rows("rates")}

    @cached_property
    def _main_sets(self) -> Mapping[str, str]:
        """The main prompt set of each class of prompts: that of the first row of `rates` which is no further set's."""
        further = set(words(self.setting("data", "prompt_sets")))
        found: dict[str, str] = {}
        for row in self.inputs.rows("rates"):
            if (name := text_of(row, "prompt_set")) and name not in further:
                found.setdefault(text_of(row, "prompts"), name)
        return found

    def main_rows(self, table: str) -> list[Row]:
        """Rows of a table that are about the main prompt set; the headline and every figure read no other set."""
        first = next(iter(self._main_sets.values()), "")
        return [
            row
            for row in self.inputs.rows(table)
            if text_of(row, "prompt_set") in ("", self._main_sets.get(text_of(row, "prompts"), first))
        ]

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Target languages: configured or measured, by resource tier, then name."""
        found = dict.fromkeys(
            [*words(self.setting("data", "languages")), *(language for _, _, language, _ in self.cells)]
        )
        return tuple(sorted(found, key=lambda code: (TIERS.get(language_tier(code), 3), language_name(code))))

    def rank(self, code: str) -> tuple[int, str]:
        """Sorting key of a language: its place on the page, unknown codes last."""
        order = {known: index for index, known in enumerate(self.languages)}
        return order.get(code, len(order)), code

    @cached_property
    def selected_layer(self) -> int | None:
        """Layer of the main source's direction; None without one."""
        row = self.selection.get(self.main_source or "")
        layer = None if row is None else real_of(row, "layer")
        return None if layer is None else int(layer)

    @cached_property
    def headline(self) -> tuple[HeadlineRow, ...]:
        """One row per target language."""
        return tuple(self._headline_row(language) for language in self.languages)

    def share(self, intervention: str, language: str, prompts: str, *, source: str | None = None) -> Share | None:
        """A compliance share; the main source's for an intervention, unless another is named."""
        if intervention == "baseline":
            return self.cells.get(("", "baseline", language, prompts))
        chosen = source if source is not None else self.main_source
        return None if chosen is None else self.cells.get((chosen, intervention, language, prompts))

    def null(self, intervention: str, language: str, prompts: str, *, refusals: bool = False) -> NullShare | None:
        """The cell under every random direction that was run."""
        found = [
            share
            for (source, kind, code, harm), share in sorted(self.cells.items())
            if source.startswith(RANDOM) and (kind, code, harm) == (intervention, language, prompts)
        ]
        rates = tuple((share.complement if refusals else share).rate for share in found)
        measured = tuple(rate for rate in rates if rate is not None)
        return NullShare(measured, sum(share.n for share in found)) if measured else None

    def average(self, column: str) -> float | None:
        """Mean over languages of a headline column's rates."""
        found: list[float] = []
        for row in self.headline:
            share: Share | NullShare | None = getattr(row, column)
            rate = share.mean if isinstance(share, NullShare) else None if share is None else share.rate
            if rate is not None:
                found.append(rate)
        return mean(found)

    def transfer(self, intervention: str) -> list[Row]:
        """Rows of the transfer table for one intervention."""
        return [row for row in self.inputs.rows("transfer") if text_of(row, "intervention") == intervention]

    def raised(self, target: str, *, intervention: str = "ablation", source: str | None = None) -> bool | None:
        """Whether a direction's effect on a language is larger than chance, by the verdict's own rule.

        None where no prompt was scored in both conditions, no null direction was run, or the table is not there.
        """
        wanted = (source or self.main_source, target, intervention)
        table = [{**dict.fromkeys(TRANSFER.columns), **row} for row in self.transfer(intervention)]
        own = next((row for row in table if (row["source"], row["target"], row["intervention"]) == wanted), None)
        return None if own is None else raised(own, table)

    def _headline_row(self, language: str) -> HeadlineRow:
        def refused(intervention: str) -> Share | None:
            share = self.share(intervention, language, "harmless")
            return None if share is None else share.complement

        return HeadlineRow(
            language=language,
            name=language_name(language),
            tier=language_tier(language),
            harmful_baseline=self.share("baseline", language, "harmful"),
            harmful_ablated=self.share("ablation", language, "harmful"),
            harmful_random=self.null("ablation", language, "harmful"),
            harmful_added=self.share("addition", language, "harmful"),
            harmless_baseline=refused("baseline"),
            harmless_added=refused("addition"),
            harmless_random=self.null("addition", language, "harmless", refusals=True),
            harmless_ablated=refused("ablation"),
        )


def cell_key(row: Row) -> tuple[str, str, str, str]:
    """(source, intervention, language, prompts) of a row of `rates`."""
    return text_of(row, "source"), text_of(row, "intervention"), text_of(row, "language"), text_of(row, "prompts")


def nearest(layers: list[int], wanted: int | None) -> int:
    """The layer closest to the wanted one; the middle one when none is wanted."""
    return layers[len(layers) // 2] if wanted is None else min(layers, key=lambda layer: (abs(layer - wanted), layer))


def language_name(code: str) -> str:
    """English name of a language; the code itself when unknown."""
    try:
        return get_language(code).english_name
    except UserError:
        return code


def language_tier(code: str) -> str:
    """Resource tier of a language; empty when unknown."""
    try:
        return get_language(code).tier
    except UserError:
        return ""


def source_name(source: str) -> str:
    """A source as people read it: language name, `random 1`, `pooled`."""
    if source.startswith(RANDOM):
        return f"random {source.removeprefix(RANDOM)}"
    return language_name(source)


def as_map(value: JsonValue) -> Mapping[str, JsonValue]:
    """A JSON object; empty for anything else."""
    return value if isinstance(value, dict) else {}


def words(value: JsonValue) -> list[str]:
    """The strings of a JSON list; empty for anything else."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
