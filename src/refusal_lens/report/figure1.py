"""The paper's Figure 1 from runs: harmful prompts answered in every language, untouched and with the direction ablated.

One panel a model, one pair of bars a language with their 95 % Wilson intervals; with the published values, a panel for each
of the paper's ten models, that of a run's own model next to the run. The published counts are facts recovered from the
figure (assets/figure1.json says how). It does not write files: `page` does.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict, cast

import altair as alt
import vl_convert

from refusal_lens.errors import RunError, UserError
from refusal_lens.measure import wilson
from refusal_lens.report.charts.theme import ABLATED, COLOURS, UNTOUCHED, Data, Spec, coloured, named, tips, vega_config
from refusal_lens.report.facts import Facts, language_name
from refusal_lens.report.inputs import asset, read_inputs
from refusal_lens.report.shares import Share, mean, percent
from refusal_lens.report.text import clean
from refusal_lens.report.views import Cell, Figure, Note, Section, TableOf, share_cell
from refusal_lens.report.words import Statement
from refusal_lens.types import JsonValue

NAME = "figure1"
PAPER = "paper"
CONDITIONS = {"untouched": UNTOUCHED, "ablated": ABLATED}
COLUMNS: tuple[str, ...] = (
    "model",
    "origin",
    "source",
    "language",
    "condition",
    "k",
    "n",
    "unscored",
    "rate",
    "low",
    "high",
)
PANEL, ROW, ACROSS = 230, 24, 3
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


@dataclass(frozen=True)
class Panel:
    """One model: where its numbers come from (a run's name, or the paper), whose direction was ablated, its shares."""

    model: str
    origin: str
    source: str
    shares: Mapping[tuple[str, str], Share]

    @property
    def title(self) -> str:
        """The model and where its numbers come from."""
        return f"{self.model} ({self.origin})"

    def mean_of(self, condition: str) -> float | None:
        """Mean share over the languages, each weighing the same; None where nothing was measured."""
        return mean(share.rate for (_, name), share in self.shares.items() if name == condition)


@dataclass(frozen=True)
class FigureOne:
    """What the page shows, and its chart and numbers for the files beside it."""

    statements: tuple[Statement, ...]
    sections: tuple[Section, ...]
    n_languages: int
    svg: bytes
    csv: bytes


def figure_one(runs: Sequence[Path], *, paper: bool, stem: str) -> FigureOne:
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
    present = {language for panel in panels for language, _ in panel.shares}
    known = [code for code in published()["languages"] if code in present]
    codes = [*known, *sorted(present - set(known))]
    spec = _spec(panels, codes)
    said = [f"{panel.title}: {_change(panel)}." for panel in panels]
    rows = [(panel, code) for panel in panels for code in codes]
    numbers = (
        TableOf(rows).words("model", lambda row: row[0].title).words("language", lambda row: language_name(row[1]))
    )
    means = TableOf(panels).words("model", lambda panel: panel.title)
    for condition, label in CONDITIONS.items():
        means.cells(label, lambda panel, condition=condition: mean_cell(panel, condition), "mean over languages")
        numbers.cells(label, lambda row, condition=condition: share_cell(row[0].shares.get((row[1], condition)), ""))
    figure = Figure(
        NAME,
        "Harmful prompts answered, by model and language",
        spec,
        alt=" ".join(said),
        reading=(
            "A panel is a model, a row a language. Grey: the untouched model; orange: the same model with the direction"
            " ablated. Lines are 95 % intervals. (paper) marks published values."
        ),
        table=numbers.made("Harmful prompts answered: share, counts and 95 % interval"),
        scroll=min(ACROSS, len(panels)) * (PANEL + 110),
        files=f"{stem}.svg, the numbers as {stem}.csv",
    )
    overview = means.made("Harmful prompts answered, mean over languages and its ends")
    notes = [Note(published()["provenance"]), Note(NOISE, "caution")] if paper else []
    blocks = [block for block in (overview, figure, *notes) if block is not None]
    return FigureOne(
        tuple(Statement(text) for text in said[:4]),
        (Section(NAME, "Untouched and ablated, in every language", blocks),),
        len(codes),
        _svg(spec),
        _csv(panels, codes),
    )


@cache
def published() -> _Published:
    """The paper's Figure 1: complied answers of 572 by model, condition and language."""
    return cast("_Published", json.loads(asset("figure1.json")))


def _panels(runs: Sequence[Path], *, paper: bool) -> list[Panel]:
    if not runs and not paper:
        raise UserError("figure1 needs a run directory, or --paper for the published values alone")
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("the same run is named twice: name different runs")
    short = [clean(run.resolve().name) for run in runs]
    names = short if len({*short, PAPER}) > len(short) else [clean(str(run.resolve())) for run in runs]
    recorded = {name: of_paper(name) for name in published()["models"]} if paper else {}
    panels: list[Panel] = []
    for run, name in zip(runs, names, strict=True):
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
        for condition, share in (("untouched", row.harmful_baseline), ("ablated", row.harmful_ablated)):
            if share is not None and share.rate is not None:
                shares[row.language, condition] = share
    if not shares:
        raise RunError(f"{run}: no judged answers to harmful prompts yet; `refusal-lens resume {run}` finishes the run")
    return Panel(facts.model, name, facts.main_source or "", shares)


def of_paper(name: str) -> Panel:
    """The published values of one of the paper's models."""
    paper = published()
    shares = {
        (code, condition): Share(k, paper["n"], 0, k / paper["n"], *wilson(k, paper["n"]))
        for condition, counts in paper["models"][name].items()
        for code, k in zip(paper["languages"], counts, strict=True)
    }
    return Panel(name, PAPER, "en", shares)


def same_model(recorded: str, model: str) -> bool:
    """Whether a run's model is one of the paper's: Qwen2.5-7B is Qwen/Qwen2.5-7B-Instruct, and not Qwen2.5-72B."""
    wanted, given = (
        re.sub(r"^meta-|-(instruct|chat|it)$", "", name.rpartition("/")[2].lower()) for name in (recorded, model)
    )
    return wanted == given


def _change(panel: Panel) -> str:
    means = [value for condition in CONDITIONS if (value := panel.mean_of(condition)) is not None]
    return f"{' to '.join(percent(value) for value in means)} of harmful prompts answered on average"


def mean_cell(panel: Panel, condition: str) -> Cell:
    """Mean share of a condition over the languages, with the language of its least and of its most."""
    shares = {code: share.rate for (code, name), share in panel.shares.items() if name == condition}
    rates = {code: rate for code, rate in shares.items() if rate is not None}
    if not rates:
        return Cell("–", tone="quiet")
    low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    ends = f"{language_name(low)} {percent(rates[low])} to {language_name(high)} {percent(rates[high])}"
    return Cell(percent(mean(rates.values())), note=ends, value=mean(rates.values()))


def _rows(panels: Sequence[Panel], codes: Sequence[str]) -> list[dict[str, JsonValue]]:
    return [
        {
            "model": panel.model, "origin": panel.origin, "source": panel.source if condition == "ablated" else "",
            "language": code, "condition": condition, "k": share.k, "n": share.n, "unscored": share.unscored,
            "rate": share.rate, "low": share.low, "high": share.high,
        }
        for panel in panels
        for code in codes
        for condition in CONDITIONS
        if (share := panel.shares.get((code, condition))) is not None
    ]  # fmt: skip


def _csv(panels: Sequence[Panel], codes: Sequence[str]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(panels, codes))
    return buffer.getvalue().encode()


def _spec(panels: Sequence[Panel], codes: Sequence[str]) -> Spec:
    data: Data = [
        {**row, "panel": f"{row['model']} ({row['origin']})", "condition": CONDITIONS[str(row["condition"])],
         "language": language_name(str(row["language"]))}
        for row in _rows(panels, codes)
    ]  # fmt: skip
    names, titles = [language_name(code) for code in codes], [panel.title for panel in panels]
    order = [label for label in CONDITIONS.values() if any(row["condition"] == label for row in data)]
    y = alt.Y("language", type="nominal", sort=names, scale=alt.Scale(domain=names), title=None)
    offset = alt.YOffset("condition", type="nominal", sort=order, scale=alt.Scale(domain=order, paddingInner=0.15))
    x = alt.X(
        "rate", type="quantitative", title="share answered", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")
    )
    base = alt.Chart().encode(y=y, yOffset=offset)
    bars = base.mark_bar().encode(
        x=x,
        color=coloured("condition", COLOURS, order),
        tooltip=tips(
            ("panel", "model"), ("language", "language"), ("condition", "condition"), ("rate", "share", ".1%"),
            ("low", "from", ".1%"), ("high", "to", ".1%"), ("k", "answered", "d"), ("n", "judged", "d"),
        ),
    )  # fmt: skip
    ends = base.mark_rule(strokeWidth=1.4).encode(x=alt.X("low", type="quantitative"), x2="high")
    layers = alt.LayerChart(layer=[bars, ends]).properties(width=PANEL, height=ROW * len(names))
    facet = alt.Facet("panel", type="nominal", sort=titles, title=None)
    chart = alt.FacetChart(data=named(), spec=layers, facet=facet, columns=min(ACROSS, len(titles)))
    return {**cast("Spec", chart.to_dict(validate=False)), "datasets": cast("JsonValue", {"rows": data})}


def _svg(spec: Spec) -> bytes:
    config: dict[str, JsonValue] = {**vega_config(dark=False), "background": "#ffffff", "padding": 12}
    return vl_convert.vegalite_to_svg({**spec, "config": config}).encode()
