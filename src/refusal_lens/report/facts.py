"""What the numbers of a run say, before anybody draws or words them: one record per language, and the run's main facts.

The headline uses one source of directions: the usual one (the default of `--sources`) if it has a valid direction, else
the first that has; other sources appear in the transfer matrix. Every number is of the main prompt set unless it says
otherwise. Means over languages weigh every language equally.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import TypeVar, cast

from refusal_lens.config import DirectionConfig
from refusal_lens.core.interventions import DECLARED, Declared, declared
from refusal_lens.core.names import BASELINE, PANEL, RANDOM, is_null, is_pool
from refusal_lens.core.tables import CONTENT, RATES, SELECTION, TRANSFER, ContentRow, RateRow, SelectionRow, TransferRow
from refusal_lens.core.tables import Table as RunTable
from refusal_lens.errors import UserError
from refusal_lens.languages import Reliability, get_language, reliability
from refusal_lens.measure import raised
from refusal_lens.report.inputs import RunInputs
from refusal_lens.report.shares import NullShare, Share, mean, share_of
from refusal_lens.types import JsonValue

RowT = TypeVar("RowT")
TIERS = {"high": 0, "medium": 1, "low": 2}
SELECTED = "selected"


@dataclass(frozen=True)
class HeadlineRow:
    """One language of the headline table.

    Harmful columns count compliance, harmless columns count refusals: untouched, with the direction ablated or added, with
    random directions; None where the run has no such cell. `tier` is the resource tier: high, medium, low, or empty.
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
        """The model's name: as it was given, or the last part of a path."""
        given = str(self.setting("model", "spec") or "unknown model")
        return PurePath(given).name if given.startswith(("/", ".", "~")) or given.count("/") > 1 else given

    @cached_property
    def judge(self) -> str:
        """Name of the judge (of a panel: the first) as header or configuration has it; empty when neither has."""
        return str(self.inputs.header.get("judge") or self.config.get("judge") or "").partition(PANEL)[0]

    def reliability(self, code: str) -> Reliability | None:
        """How far the judge agreed with reference labels in a language; None where it was never measured."""
        return reliability(self.judge, code)

    @cached_property
    def _main_sets(self) -> Mapping[str, str]:
        """The main prompt set of each class of prompts: that of the first row of `rates` which is no further set's."""
        further = set(words(self.setting("data", "prompt_sets")))
        found: dict[str, str] = {}
        for row in self.inputs.rows(RATES):
            if (name := row["prompt_set"]) and name not in further:
                found.setdefault(row["prompts"], name)
        return found

    @cached_property
    def extra_sets(self) -> tuple[str, ...]:
        """Names of further prompt sets beside the main one: those configured, then others that `rates` holds."""
        measured = (row["prompt_set"] for row in self.inputs.rows(RATES))
        others = (name for name in measured if name and name not in self._main_sets.values())
        return tuple(dict.fromkeys([*words(self.setting("data", "prompt_sets")), *others]))

    def main_rows(self, table: RunTable[RowT]) -> list[RowT]:
        """Rows of a table that are about the main prompt set; the headline and every figure read no other set."""
        return self.of_main(self.inputs.rows(table))

    def of_main(self, rows: Iterable[RowT]) -> list[RowT]:
        """Of any table's rows, those about the main prompt set."""
        first = next(iter(self._main_sets.values()), "")
        kept: list[RowT] = []
        for row in rows:
            cells = cast("Mapping[str, object]", row)
            main = self._main_sets.get(str(cells.get("prompts")), first)
            if cells.get("prompt_set") in (None, "", main):
                kept.append(row)
        return kept

    @cached_property
    def cells(self) -> Mapping[tuple[str, str, str, str], Share]:
        """Compliance by (source, intervention, language, prompts) on the main prompt set."""
        return {_cell(row): share_of(row) for row in self.main_rows(RATES)}

    @cached_property
    def interventions(self) -> tuple[Declared, ...]:
        """The two that the headline speaks of, and whatever else was measured, in the registry's order, unknown ones last."""
        measured = dict.fromkeys(["ablation", "addition", *(name for _, name, _, _ in self.cells)])
        known = [name for name in DECLARED if name in measured]
        return tuple(map(declared, (*known, *(name for name in measured if name not in (*DECLARED, BASELINE)))))

    @cached_property
    def _topics(self) -> Mapping[tuple[str, str, str, str], ContentRow]:
        return {_cell(row): row for row in self.main_rows(CONTENT)}

    @cached_property
    def selection(self) -> Mapping[str, SelectionRow]:
        """Row of the table `selection` by source."""
        return {row["source"]: row for row in self.inputs.rows(SELECTION)}

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Source languages in configured order, then others that the tables name."""
        known = list(dict.fromkeys([*words(self.setting("directions", "sources")), *self.selection]))
        return tuple(known) or self._measured_sources

    @cached_property
    def valid_sources(self) -> tuple[str, ...]:
        """Sources with a selected direction; without a selection table, those with measured cells."""
        if not self.selection:
            return self._measured_sources
        chosen = {source for source, row in self.selection.items() if row["status"] == SELECTED}
        return tuple(source for source in self.sources if source in chosen)

    @cached_property
    def _measured_sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(source for source, *_ in self.cells if source and not is_null(source)))

    @cached_property
    def main_source(self) -> str | None:
        """The source the headline speaks of: the usual one if it has a direction; None without any valid direction."""
        usual = [source for source in DirectionConfig().sources if source in self.valid_sources]
        return next(iter([*usual, *self.valid_sources]), None)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Target languages: configured or measured, by resource tier, then name."""
        found = dict.fromkeys(
            [*words(self.setting("data", "languages")), *(language for _, _, language, _ in self.cells)]
        )
        return tuple(sorted(found, key=lambda code: (TIERS.get(language_tier(code), 3), language_name(code))))

    def ordered(self, codes: Iterable[str]) -> list[str]:
        """Languages, pools and nulls in the page's order, unknown codes after the known, nulls last."""
        place = {code: index for index, code in enumerate(self.languages)}
        return sorted(dict.fromkeys(codes), key=lambda code: (is_null(code), place.get(code, len(place)), code))

    def at_layer(self, rows: Sequence[RowT]) -> list[RowT]:
        """Of rows that have a layer, those at the layer closest to the selected direction's."""
        layers = sorted({layer_of(row) for row in rows})
        wanted = nearest(layers, self.selected_layer) if layers else None
        return [row for row in rows if layer_of(row) == wanted]

    @cached_property
    def selected_layer(self) -> int | None:
        """Layer of the main source's direction; None without one."""
        row = self.selection.get(self.main_source or "")
        return None if row is None else row["layer"]

    @cached_property
    def headline(self) -> tuple[HeadlineRow, ...]:
        """One row per target language."""
        return tuple(self._headline_row(language) for language in self.languages)

    def key(self, intervention: str, language: str, prompts: str) -> tuple[str, str, str, str]:
        """The cell of the untouched model, or of the main source's direction."""
        return "" if intervention == "baseline" else self.main_source or "-", intervention, language, prompts

    def share(self, intervention: str, language: str, prompts: str) -> Share | None:
        """A cell as people read it: harmful prompts answered, harmless prompts refused."""
        found = self.cells.get(self.key(intervention, language, prompts))
        return found.complement if found is not None and prompts == "harmless" else found

    def null(self, intervention: str, language: str, prompts: str) -> NullShare | None:
        """The same under every random direction that was run."""
        found = [
            share.complement if prompts == "harmless" else share
            for (source, *cell), share in sorted(self.cells.items())
            if source.startswith(RANDOM) and cell == [intervention, language, prompts]
        ]
        measured = tuple(share.rate for share in found if share.rate is not None)
        return NullShare(measured, sum(share.n for share in found)) if measured else None

    def average(self, column: str) -> float | None:
        """Mean over languages of a headline column's rates."""
        shares: list[Share | NullShare | None] = [getattr(row, column) for row in self.headline]
        return mean(share.mean if isinstance(share, NullShare) else share.rate for share in shares if share)

    def topic(self, language: str, *, intervention: str = "baseline") -> ContentRow | None:
        """On-topic and hollow answers to a language's harmful prompts, untouched or with the main source's direction."""
        return self._topics.get(self.key(intervention, language, "harmful"))

    def transfer(self, intervention: str) -> list[TransferRow]:
        """Rows of the transfer table for one intervention."""
        return [row for row in self.inputs.rows(TRANSFER) if row["intervention"] == intervention]

    def raised(self, target: str, *, intervention: str = "ablation", source: str | None = None) -> bool | None:
        """Whether a direction's effect on a language is larger than chance, by the verdict's own rule.

        None where no prompt was scored in both conditions, no null direction was run, or the table is not there.
        """
        table = self.transfer(intervention)
        wanted = (source or self.main_source, target)
        own = next((row for row in table if (row["source"], row["target"]) == wanted), None)
        return None if own is None else raised(own, table)

    def _headline_row(self, language: str) -> HeadlineRow:
        return HeadlineRow(
            language=language,
            name=language_name(language),
            tier=language_tier(language),
            harmful_baseline=self.share("baseline", language, "harmful"),
            harmful_ablated=self.share("ablation", language, "harmful"),
            harmful_random=self.null("ablation", language, "harmful"),
            harmful_added=self.share("addition", language, "harmful"),
            harmless_baseline=self.share("baseline", language, "harmless"),
            harmless_added=self.share("addition", language, "harmless"),
            harmless_random=self.null("addition", language, "harmless"),
            harmless_ablated=self.share("ablation", language, "harmless"),
        )


def _cell(row: RateRow | ContentRow) -> tuple[str, str, str, str]:
    return row["source"], row["intervention"], row["language"], row["prompts"]


def layer_of(row: object) -> int:
    """The layer of a row that has one."""
    return cast("Mapping[str, int]", row)["layer"]


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
    """A source as people read it: language name, `random 1`, `pooled without Thai`."""
    if source.startswith(RANDOM):
        return f"random {source.removeprefix(RANDOM)}"
    if is_pool(source):
        pool, _, code = source.rpartition("-")
        return f"{pool.replace('-', ' ')} {language_name(code)}" if pool else source
    return language_name(source)


def as_map(value: JsonValue) -> Mapping[str, JsonValue]:
    """A JSON object; empty for anything else."""
    return value if isinstance(value, dict) else {}


def words(value: JsonValue) -> list[str]:
    """The strings of a JSON list; empty for anything else."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
