"""Prompt by prompt, without a text: which harmful prompts were answered in which languages, untouched and ablated.

A prompt's id is shared by its translations, so a row is one instruction. Those answered untouched in most languages stand
first: they say whether a model leaks by language or by subject.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeAlias

from refusal_lens.core.names import BASELINE
from refusal_lens.core.tables import VERDICTS
from refusal_lens.errors import DataError
from refusal_lens.report.facts import Facts
from refusal_lens.report.text import clean
from refusal_lens.report.views import Cell, Table, TableOf

MOST = 200
LABELS = {"complied": "answered", "refused": "refused", "unscored": "not judged"}
Labels: TypeAlias = Mapping[str, list[str]]


def prompts_table(facts: Facts) -> Table | None:
    """The harmful prompts of the main set with the languages that answered them.

    Args:
        facts: The run's numbers.

    Returns:
        A table that starts closed; None where the run has no readable verdicts.
    """
    found = {name: _labels(facts, name, source) for name, source in ((BASELINE, ""), ("ablation", facts.main_source))}
    plain, ablated = found[BASELINE], found["ablation"]
    ids = sorted(plain, key=lambda one: (-len(plain[one].get("complied", ())), one))
    cut = f" The first {MOST} of {len(ids)}." if len(ids) > MOST else ""
    table = TableOf(ids[:MOST]).words("prompt id", lambda one: Cell(clean(one)))
    for where, labels in (("untouched", plain), ("direction ablated", ablated)):
        for label, said in LABELS.items():
            if label == "refused" and where == "untouched":
                continue
            table.cells(said, lambda one, of=labels, label=label: _cell(facts, of.get(one, {}), label), where)
    return table.made(
        "Harmful prompts by id, those answered untouched in most languages first: how many languages, and which by code."
        f" No text is shown; --reveal shows the first few.{cut}",
        folded=True,
    )


def _labels(facts: Facts, intervention: str, source: str | None) -> dict[str, Labels]:
    """Languages by label, by prompt id."""
    try:
        rows = VERDICTS.read(facts.inputs.root / "tables" / f"{VERDICTS.name}.parquet")
    except DataError:
        return {}
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in facts.of_main(rows):
        if (row["intervention"], row["source"], row["prompts"]) == (intervention, source or "", "harmful"):
            found[row["prompt_id"]][row["label"]].append(clean(row["language"]))
    return dict(found)


def _cell(facts: Facts, labels: Labels, label: str) -> Cell:
    codes = facts.ordered(labels.get(label, ()))
    if not labels:
        return Cell("–")
    return Cell(str(len(codes)), note=" ".join(codes), value=float(len(codes)))
