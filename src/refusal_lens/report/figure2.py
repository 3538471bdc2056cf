"""The paper's Figure 2 from runs: harmful prompts answered in every language under directions of several source languages.

The paper takes German, Chinese and Thai; its values were never recorded, so that there are none to put beside. A direction
that serves every language shows as bars of one height, whichever language it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from refusal_lens.errors import RunError, UserError
from refusal_lens.report.bars import BarPage, Kind, Panel, Series, bar_page, run_names
from refusal_lens.report.charts.theme import COLOURS, UNTOUCHED
from refusal_lens.report.facts import Facts, source_name
from refusal_lens.report.figure1 import languages_of
from refusal_lens.report.inputs import read_inputs
from refusal_lens.report.shares import Share
from refusal_lens.report.views import Note

PALETTE = ("#d9601a", "#b98a1d", "#2f9c78", "#2b83c6", "#9d78ae", "#b8325f", "#7f8433", "#7a4a2b")
ALONE = "These runs have no direction of another language than English: `audit --sources en,de,zh,th` adds those of the paper."


def figure_two(runs: Sequence[Path], *, sources: Sequence[str], stem: str) -> BarPage:
    """Arrange and draw the figure.

    Args:
        runs: Run directories of audits.
        sources: Source languages to show; empty for every one with a direction.
        stem: Name of the files beside the page, for the caption.

    Returns:
        What the page shows, the chart as SVG, the numbers as CSV.

    Raises:
        RunError: One of the folders holds no run, or a run without rates on harmful prompts.
        UserError: No run, one run is named twice, or a source that no run has.
    """
    if not runs:
        raise UserError("figure2 needs a run directory")
    read = [(name, run, Facts(read_inputs(run))) for run, name in zip(runs, run_names(runs), strict=True)]
    there = list(dict.fromkeys(source for _, _, facts in read for source in facts.valid_sources))
    if unknown := [source for source in sources if source not in there]:
        raise UserError(f"no direction from {', '.join(unknown)}; the runs have {', '.join(there) or 'none'}")
    chosen = list(sources) or there
    labels = {source: f"{source_name(source)} ablated" for source in chosen}
    panels = [_panel(facts, run, name, labels) for name, run, facts in read]
    kind = Kind(
        "figure2",
        "Harmful prompts answered, by the direction's language",
        "One direction after the other, in every language",
        "A panel is a model, a row a language. Grey: the untouched model; each colour: the same model with the direction of"
        " one source language ablated. Lines are 95 % intervals.",
        (
            Series("", UNTOUCHED, "untouched", COLOURS[UNTOUCHED]),
            *(
                Series(source, label, "ablated", PALETTE[place % len(PALETTE)])
                for place, (source, label) in enumerate(labels.items())
            ),
        ),
    )
    notes = [Note(ALONE, "caution")] if not set(there) - {"en"} else []
    return bar_page(kind, panels, languages_of(panels), stem=stem, notes=notes)


def _panel(facts: Facts, run: Path, name: str, sources: Iterable[str]) -> Panel:
    shares: dict[tuple[str, str], Share] = {}
    for code in facts.languages:
        for source in ("", *sources):
            share = facts.cells.get((source, "ablation" if source else "baseline", code, "harmful"))
            if share is not None and share.rate is not None:
                shares[code, source] = share
    if not shares:
        raise RunError(f"{run}: no judged answers to harmful prompts yet; `refusal-lens resume {run}` finishes the run")
    return Panel(facts.model, name, {source: source for source in sources}, shares)
