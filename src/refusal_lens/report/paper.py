"""The paper's recorded values beside a run's: its own model where that is one of the paper's ten, all ten beside any run.

The values are those of Figure 1 (assets/figure1.json says where they come from): harmful prompts answered, untouched and with
the English direction ablated. A language or a condition that the run did not measure stays empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from refusal_lens.report.bars import Panel, mean_cell
from refusal_lens.report.facts import Facts, language_name
from refusal_lens.report.figure1 import CONDITIONS, NOISE, of_paper, published, same_model
from refusal_lens.report.shares import Share, mean, percent
from refusal_lens.report.views import Block, Cell, Note, Section, Table, TableOf, share_cell


def paper_section(facts: Facts, *, name: str = "", at: int = 0) -> Section:
    """The paper's values beside a run's.

    Args:
        facts: The run's numbers.
        name: The run's name, where a page shows several.
        at: Its place among them.

    Returns:
        A section with two tables.
    """
    recorded = [of_paper(model) for model in published()["models"]]
    own = next((panel for panel in recorded if same_model(panel.model, facts.model)), None)
    blocks: list[Block] = [Note(published()["provenance"]), Note(NOISE, "caution")]
    if own is None:
        blocks.append(
            Note(f"{facts.model} is none of the paper's ten models: the paper's columns are over all ten.", "missing")
        )
    blocks += [
        block
        for block in (_by_language(facts, own, recorded, name), _by_model(facts, recorded, name))
        if block is not None
    ]
    return Section(f"paper-{at}" if name else "paper", f"Beside the paper{f': {name}' if name else ''}", blocks)


def _measured(facts: Facts) -> dict[tuple[str, str], Share]:
    found: dict[tuple[str, str], Share] = {}
    for row in facts.headline:
        for condition, share in zip(CONDITIONS, (row.harmful_baseline, row.harmful_ablated), strict=True):
            if share is not None and share.rate is not None:
                found[row.language, condition] = share
    return found


def _by_language(facts: Facts, own: Panel | None, recorded: Sequence[Panel], name: str) -> Table | None:
    mine = _measured(facts)
    codes = facts.ordered([*facts.languages, *published()["languages"]])
    table = TableOf(codes).words("language", language_name)
    for condition, label in CONDITIONS.items():
        table.cells("this run", lambda code, of=condition: _cell(mine.get((code, of)), of), label)
        if own is None:
            table.cells("the paper's ten", lambda code, of=condition: _range(recorded, code, of), label)
        else:
            table.cells(
                f"the paper, {own.model}", lambda code, of=condition: _cell(own.shares.get((code, of)), of), label
            )
    run = name or "this run"
    return table.made(f"Harmful prompts answered, in {run} and in the paper: share, counts and 95 % Wilson interval")


def _cell(share: Share | None, condition: str) -> Cell:
    return Cell("–", tone="quiet") if share is None else share_cell(share, condition)


def _range(recorded: Sequence[Panel], code: str, condition: str) -> Cell:
    """Mean over the ten models, and its ends."""
    rates = {panel.model: share.rate for panel in recorded if (share := panel.shares.get((code, condition)))}
    known = {model: rate for model, rate in rates.items() if rate is not None}
    if not known:
        return Cell("–", tone="quiet")
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    average = mean(known.values())
    return Cell(
        percent(average),
        note=f"{low} {percent(known[low])} to {high} {percent(known[high])}",
        tone=condition,
        value=average,
    )


def _by_model(facts: Facts, recorded: Sequence[Panel], name: str) -> Table | None:
    run = Panel(facts.model, "this run", {"ablated": facts.main_source or ""}, _measured(facts))
    table = TableOf([run, *recorded]).words("model", lambda panel: panel.title)
    for condition, label in CONDITIONS.items():
        table.cells(label, lambda panel, of=condition: mean_cell(panel, of), "mean over languages, and its ends")
    return table.made(f"Harmful prompts answered, {name or 'this run'} and the paper's ten models")
