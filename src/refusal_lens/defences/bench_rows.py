"""From the cells of a bench to its tables. Numbers in, rows out: no model, no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from refusal_lens.core.bench_tables import BenchPairedRow, BenchRow, BenchSelectivityRow
from refusal_lens.measure import holm, wilson
from refusal_lens.measure.paired import Draws, compare_paired
from refusal_lens.measure.selectivity import difference_of_rates

UNDEFENDED = "undefended"
NULL = ":random-"


@dataclass(frozen=True)
class BenchCell:
    """What one defence did under one attack, in all languages.

    Attributes:
        defence: Its name.
        attack: The attacker's.
        labels: Verdict (refused, complied, unscored) by (language, class, prompt id).
        kl: By language, nats a token; loss: the same.
        overhead: Of the defence, share of prefill; None where it was not measured.
        flags: Whether the gate took the prompt for harmful, by the same key; empty without a gate.
    """

    defence: str
    attack: str
    labels: Mapping[tuple[str, str, str], str]
    kl: Mapping[str, float] = field(default_factory=dict[str, float])
    loss: Mapping[str, float] = field(default_factory=dict[str, float])
    overhead: float | None = None
    flags: Mapping[tuple[str, str, str], bool] = field(default_factory=dict[tuple[str, str, str], bool])

    def flagged(self, language: str, harm: str) -> float | None:
        """Share of a language's prompts of one class that the gate took for harmful; None without a gate there."""
        values = [flag for (code, kind, _), flag in self.flags.items() if (code, kind) == (language, harm)]
        return sum(values) / len(values) if values else None

    def groups(self) -> dict[tuple[str, str], dict[str, str]]:
        """Labels by prompt id of each language and class."""
        found: dict[tuple[str, str], dict[str, str]] = {}
        for (language, harm, prompt_id), label in self.labels.items():
            found.setdefault((language, harm), {})[prompt_id] = label
        return found


def counted(labels: Mapping[str, str]) -> tuple[int, int]:
    """Refused answers, and scored ones."""
    values = list(labels.values())
    return values.count("refused"), len(values) - values.count("unscored")


def bench_rows(cells: Sequence[BenchCell]) -> list[BenchRow]:
    """The table `bench`.

    Args:
        cells: The cells, in order.

    Returns:
        One row per cell, language and class.
    """
    rows: list[BenchRow] = []
    for cell in cells:
        for (language, harm), labels in cell.groups().items():
            k, n = counted(labels)
            low, high = wilson(k, n)
            rows.append(
                {
                    "defence": cell.defence,
                    "attack": cell.attack,
                    "language": language,
                    "prompts": harm,
                    "k": k,
                    "n": n,
                    "rate": k / n if n else None,
                    "low": low if n else None,
                    "high": high if n else None,
                    "kl": cell.kl.get(language),
                    "loss": cell.loss.get(language),
                    "overhead": cell.overhead,
                }
            )
    return rows


def bench_selectivity_rows(cells: Sequence[BenchCell]) -> list[BenchSelectivityRow]:
    """The table `bench_selectivity`: attack success is never shown without over-refusal beside it."""
    rows: list[BenchSelectivityRow] = []
    for cell in cells:
        groups = cell.groups()
        for language in dict.fromkeys(language for language, _ in groups):
            harmful, harmless = groups.get((language, "harmful"), {}), groups.get((language, "harmless"), {})
            (k_harm, n_harm), (k_calm, n_calm) = counted(harmful), counted(harmless)
            value = low = high = None
            if n_harm and n_calm:
                value, low, high = difference_of_rates(k_harm, n_harm, k_calm, n_calm)
            opened = cell.flagged(language, "harmful")
            rows.append(
                {
                    "defence": cell.defence,
                    "attack": cell.attack,
                    "language": language,
                    "harmful_refused": k_harm / n_harm if n_harm else None,
                    "attack_success": 1 - k_harm / n_harm if n_harm else None,
                    "overrefusal": k_calm / n_calm if n_calm else None,
                    "selectivity": value,
                    "low": low,
                    "high": high,
                    "n_harmful": n_harm,
                    "n_harmless": n_calm,
                    "unscored": len(harmful) + len(harmless) - n_harm - n_calm,
                    "miss": None if opened is None else 1 - opened,
                    "false_alarm": cell.flagged(language, "harmless"),
                }
            )
    return rows


def bench_paired_rows(cells: Sequence[BenchCell], *, seed: int = 0) -> list[BenchPairedRow]:
    """The table `bench_paired`.

    Args:
        cells: The cells, among them those of the undefended model.
        seed: Of the bootstrap.

    Returns:
        One row per defence but the undefended, attack, language and class. An attack that the undefended model has not
        (an adapter turned down) is compared with no attack at all.
    """
    by_name = {(cell.defence, cell.attack): cell for cell in cells}
    draws = Draws(seed=seed)
    rows: list[BenchPairedRow] = []
    for cell in cells:
        before = by_name.get((UNDEFENDED, cell.attack)) or by_name.get((UNDEFENDED, "none"))
        if cell.defence == UNDEFENDED or before is None:
            continue
        null = next((item for item in cells if item.defence.startswith(cell.defence + NULL)), None)
        untouched = by_name.get((UNDEFENDED, "none"))
        family: list[BenchPairedRow] = []
        for (language, harm), labels in cell.groups().items():
            base = before.groups().get((language, harm), {})
            family.append(_paired(cell, language, harm, base, labels, draws))
            if null is not None and untouched is not None and NULL not in cell.defence:
                group = (language, harm)
                plain, pushed = untouched.groups().get(group, {}), null.groups().get(group, {})
                family[-1]["null_difference"] = _paired(null, language, harm, plain, pushed, draws)["difference"]
        for harm in ("harmful", "harmless"):
            part = [row for row in family if row["prompts"] == harm]
            for row, adjusted in zip(part, holm([row["p_value"] for row in part]), strict=True):
                row["p_holm"] = adjusted
        rows += family
    return rows


def _paired(
    cell: BenchCell, language: str, harm: str, before: Mapping[str, str], after: Mapping[str, str], draws: Draws
) -> BenchPairedRow:
    ids = [name for name in before if name in after and "unscored" not in (before[name], after[name])]
    values = [np.array([int(labels[name] == "refused") for name in ids]) for labels in (before, after)]
    empty = not ids
    found = None if empty else compare_paired(values[0], values[1], weights=draws.of(ids))
    return {
        "defence": cell.defence,
        "attack": cell.attack,
        "language": language,
        "prompts": harm,
        "undefended": None if found is None else found.before,
        "rate": None if found is None else found.after,
        "difference": None if found is None else found.difference,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
        "p_value": None if found is None else found.p_value,
        "p_holm": None,
        "n": len(ids),
        "gained": 0 if found is None else found.gained,
        "lost": 0 if found is None else found.lost,
        "null_difference": None,
    }
