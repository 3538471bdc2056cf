"""The paper's Figure 1 from runs: harmful prompts answered in every language, untouched and with the direction ablated.

With the published values there is a panel for each of the paper's ten models, that of a run's own model next to the run. The
published counts are facts recovered from the figure (assets/figure1.json says how).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypedDict, cast

from refusal_lens.errors import RunError, UserError
from refusal_lens.measure import wilson
from refusal_lens.report.bars import BarPage, Kind, Panel, Series, bar_page, run_names
from refusal_lens.report.charts.theme import ABLATED, COLOURS, UNTOUCHED
from refusal_lens.report.facts import Facts
from refusal_lens.report.inputs import asset, read_inputs
from refusal_lens.report.shares import Share
from refusal_lens.report.views import Note

PAPER = "paper"
CONDITIONS = {"untouched": UNTOUCHED, "ablated": ABLATED}
KIND = Kind(
    "figure1",
    "Harmful prompts answered, untouched and ablated",
    "Untouched and ablated, in every language",
    "A panel is a model, a row a language. Grey: the untouched model; orange: the same model with the direction ablated."
    " Lines are 95 % intervals. (paper) marks published values.",
    tuple(Series(condition, label, condition, COLOURS[label]) for condition, label in CONDITIONS.items()),
)
NOISE = (
    "Two recorded runs of the same greedy baseline differ by up to 2.6 points a language, and the paper judged translated"
    " answers with WildGuard: a smaller difference between a run and the paper means nothing."
)


class _Published(TypedDict):
    """Content of assets/figure1.json: complied answers of n by model, condition and language."""

    provenance: str
    n: int
    languages: list[str]
    models: dict[str, dict[str, list[int]]]


def figure_one(runs: Sequence[Path], *, paper: bool, stem: str) -> BarPage:
    """Arrange and draw the figure.

    Args:
        runs: Run directories of audits; none is allowed with `paper`.
        paper: Show the published values too.
        stem: Name of the files beside the page, for the caption.

    Returns:
        What the page shows, the chart as SVG, the numbers as CSV.

    Raises:
        RunError: One of the folders holds no run, or a run without rates on harmful prompts.
        UserError: Neither a run nor the paper is asked for, or one run is named twice.
    """
    panels = _panels(runs, paper=paper)
    notes = [Note(published()["provenance"]), Note(NOISE, "caution")] if paper else []
    return bar_page(KIND, panels, languages_of(panels), stem=stem, notes=notes)


def languages_of(panels: Sequence[Panel]) -> list[str]:
    """Languages of the panels in the paper's order, others after them."""
    present = {language for panel in panels for language, _ in panel.shares}
    known = [code for code in published()["languages"] if code in present]
    return [*known, *sorted(present - set(known))]


@cache
def published() -> _Published:
    """The paper's Figure 1: complied answers of 572 by model, condition and language."""
    return cast("_Published", json.loads(asset("figure1.json")))


def _panels(runs: Sequence[Path], *, paper: bool) -> list[Panel]:
    if not runs and not paper:
        raise UserError("figure1 needs a run directory, or --paper for the published values alone")
    recorded = {name: of_paper(name) for name in published()["models"]} if paper else {}
    panels: list[Panel] = []
    for run, name in zip(runs, run_names(runs, taken=[PAPER]), strict=True):
        panel = _of_run(run, name)
        panels.append(panel)
        same = next((model for model in recorded if same_model(model, panel.model)), None)
        if same is not None:
            panels.append(recorded.pop(same))
    return [*panels, *recorded.values()]


def _of_run(run: Path, name: str) -> Panel:
    facts = Facts(read_inputs(run))
    shares: dict[tuple[str, str], Share] = {}
    for row in facts.headline:
        for condition, share in zip(CONDITIONS, (row.harmful_baseline, row.harmful_ablated), strict=True):
            if share is not None and share.rate is not None:
                shares[row.language, condition] = share
    if not shares:
        raise RunError(f"{run}: no judged answers to harmful prompts yet; `refusal-lens resume {run}` finishes the run")
    return Panel(facts.model, name, {"ablated": facts.main_source or ""}, shares)


def of_paper(name: str) -> Panel:
    """The published values of one of the paper's models."""
    paper = published()
    shares = {
        (code, condition): Share(k, paper["n"], 0, k / paper["n"], *wilson(k, paper["n"]))
        for condition, counts in paper["models"][name].items()
        for code, k in zip(paper["languages"], counts, strict=True)
    }
    return Panel(name, PAPER, {"ablated": "en"}, shares)


def same_model(recorded: str, model: str) -> bool:
    """Whether a run's model is one of the paper's: Qwen2.5-7B is Qwen/Qwen2.5-7B-Instruct, and not Qwen2.5-72B."""
    wanted, given = (
        re.sub(r"^meta-|-(instruct|chat|it)$", "", name.rpartition("/")[2].lower()) for name in (recorded, model)
    )
    return wanted == given
