"""Pages of the paper's kind of figure: bars by model, language and condition, with their chart as SVG and numbers as CSV.

One panel a model, one bar a condition in each language, with its 95 % Wilson interval. What the panels hold is up to
`figure1` and `figure2`; files are written by `page`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import altair as alt
import vl_convert

from refusal_lens.errors import UserError
from refusal_lens.report.charts.theme import Data, Spec, coloured, named, tips, vega_config
from refusal_lens.report.facts import language_name
from refusal_lens.report.shares import Share, mean, percent
from refusal_lens.report.text import clean
from refusal_lens.report.views import Cell, Figure, Note, Section, TableOf, share_cell
from refusal_lens.report.words import Statement
from refusal_lens.types import JsonValue

COLUMNS: tuple[str, ...] = (
    "model", "origin", "source", "language", "condition", "k", "n", "unscored", "rate", "low", "high",
)  # fmt: skip
PANEL, ROW, ACROSS = 230, 12, 3


@dataclass(frozen=True)
class Series:
    """One bar in each language: its key in the panels, its name on the page and in the CSV, and its colour."""

    key: str
    label: str
    condition: str
    colour: str


@dataclass(frozen=True)
class Panel:
    """One model: where its numbers come from (a run's name, or the paper), and its shares.

    Attributes:
        sources: The direction's language by key of a series; none for the untouched model.
        shares: By language and key of a series.
    """

    model: str
    origin: str
    sources: Mapping[str, str]
    shares: Mapping[tuple[str, str], Share]

    @property
    def title(self) -> str:
        """The model and where its numbers come from."""
        return f"{self.model} ({self.origin})"

    def mean_of(self, key: str) -> float | None:
        """Mean share over the languages, each weighing the same; None where nothing was measured."""
        return mean(share.rate for (_, name), share in self.shares.items() if name == key)


@dataclass(frozen=True)
class BarPage:
    """What the page shows, and its chart and numbers for the files beside it."""

    title: str
    statements: tuple[Statement, ...]
    sections: tuple[Section, ...]
    n_languages: int
    svg: bytes
    csv: bytes


@dataclass(frozen=True)
class Kind:
    """What is common to the panels of a figure: its name, heading, reading, and bars from top to bottom."""

    name: str
    title: str
    heading: str
    reading: str
    series: tuple[Series, ...]


def bar_page(kind: Kind, panels: Sequence[Panel], codes: Sequence[str], *, stem: str, notes: Iterable[Note]) -> BarPage:
    """Arrange and draw a figure.

    Args:
        kind: The figure.
        panels: Its models.
        codes: Languages from top to bottom.
        stem: Name of the files beside the page, for the caption.
        notes: What stands below the figure.

    Returns:
        What the page shows, the chart as SVG, the numbers as CSV.
    """
    spec = _spec(kind, panels, codes)
    said = [f"{panel.title}: {_change(kind, panel)}." for panel in panels]
    rows = [(panel, code) for panel in panels for code in codes]
    numbers = (
        TableOf(rows).words("model", lambda row: row[0].title).words("language", lambda row: language_name(row[1]))
    )
    means = TableOf(panels).words("model", lambda panel: panel.title)
    for series in kind.series:
        means.cells(series.label, lambda panel, key=series.key: mean_cell(panel, key), "mean over languages")
        numbers.cells(series.label, lambda row, key=series.key: share_cell(row[0].shares.get((row[1], key)), ""))
    figure = Figure(
        kind.name,
        "Harmful prompts answered, by model and language",
        spec,
        alt=" ".join(said),
        reading=kind.reading,
        table=numbers.made("Harmful prompts answered: share, counts and 95 % interval"),
        scroll=min(ACROSS, len(panels)) * (PANEL + 110),
        files=f"{stem}.svg, the numbers as {stem}.csv",
    )
    overview = means.made("Harmful prompts answered, mean over languages and its ends")
    blocks = [block for block in (overview, figure, *notes) if block is not None]
    return BarPage(
        kind.title,
        tuple(Statement(text) for text in said[:4]),
        (Section(kind.name, kind.heading, blocks),),
        len(codes),
        _svg(spec),
        _csv(kind, panels, codes),
    )


def run_names(runs: Sequence[Path], *, taken: Iterable[str] = ()) -> list[str]:
    """A distinct name for each run: its folder's, the whole path where folders are named alike or like something taken.

    Args:
        runs: Folders of runs.
        taken: Names that are used already.

    Returns:
        The names, in the order of the runs.

    Raises:
        UserError: One run is named twice.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("the same run is named twice: name different runs")
    short = [clean(run.resolve().name) for run in runs]
    reserved = set(taken)
    alike = len({*short, *reserved}) < len(short) + len(reserved)
    return [clean(str(run.resolve())) for run in runs] if alike else short


def _change(kind: Kind, panel: Panel) -> str:
    means = [(series.label, value) for series in kind.series if (value := panel.mean_of(series.key)) is not None]
    if len(means) < 3:
        return f"{' to '.join(percent(value) for _, value in means)} of harmful prompts answered on average"
    listed = ", ".join(f"{label} {percent(value)}" for label, value in means)
    return f"harmful prompts answered on average: {listed}"


def mean_cell(panel: Panel, key: str) -> Cell:
    """Mean share of a series over the languages, with the language of its least and of its most."""
    shares = {code: share.rate for (code, name), share in panel.shares.items() if name == key}
    rates = {code: rate for code, rate in shares.items() if rate is not None}
    if not rates:
        return Cell("–", tone="quiet")
    low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    ends = f"{language_name(low)} {percent(rates[low])} to {language_name(high)} {percent(rates[high])}"
    return Cell(percent(mean(rates.values())), note=ends, value=mean(rates.values()))


def _rows(kind: Kind, panels: Sequence[Panel], codes: Sequence[str]) -> list[tuple[Series, dict[str, JsonValue]]]:
    return [
        (series, {
            "model": panel.model, "origin": panel.origin, "source": panel.sources.get(series.key, ""),
            "language": code, "condition": series.condition, "k": share.k, "n": share.n, "unscored": share.unscored,
            "rate": share.rate, "low": share.low, "high": share.high,
        })
        for panel in panels
        for code in codes
        for series in kind.series
        if (share := panel.shares.get((code, series.key))) is not None
    ]  # fmt: skip


def _csv(kind: Kind, panels: Sequence[Panel], codes: Sequence[str]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for _, row in _rows(kind, panels, codes))
    return buffer.getvalue().encode()


def _spec(kind: Kind, panels: Sequence[Panel], codes: Sequence[str]) -> Spec:
    data: Data = [
        {**row, "panel": f"{row['model']} ({row['origin']})", "condition": series.label,
         "language": language_name(str(row["language"]))}
        for series, row in _rows(kind, panels, codes)
    ]  # fmt: skip
    names, titles = [language_name(code) for code in codes], [panel.title for panel in panels]
    order = [series.label for series in kind.series if any(row["condition"] == series.label for row in data)]
    colours = {series.label: series.colour for series in kind.series}
    y = alt.Y("language", type="nominal", sort=names, scale=alt.Scale(domain=names), title=None)
    offset = alt.YOffset("condition", type="nominal", sort=order, scale=alt.Scale(domain=order, paddingInner=0.15))
    x = alt.X(
        "rate", type="quantitative", title="share answered", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")
    )
    base = alt.Chart().encode(y=y, yOffset=offset)
    bars = base.mark_bar().encode(
        x=x,
        color=coloured("condition", colours, order),
        tooltip=tips(
            ("panel", "model"), ("language", "language"), ("condition", "condition"), ("rate", "share", ".1%"),
            ("low", "from", ".1%"), ("high", "to", ".1%"), ("k", "answered", "d"), ("n", "judged", "d"),
        ),
    )  # fmt: skip
    ends = base.mark_rule(strokeWidth=1.4).encode(x=alt.X("low", type="quantitative"), x2="high")
    layers = alt.LayerChart(layer=[bars, ends]).properties(width=PANEL, height=ROW * max(2, len(order)) * len(names))
    facet = alt.Facet("panel", type="nominal", sort=titles, title=None)
    chart = alt.FacetChart(data=named(), spec=layers, facet=facet, columns=min(ACROSS, len(titles)))
    return {**cast("Spec", chart.to_dict(validate=False)), "datasets": cast("JsonValue", {"rows": data})}


def _svg(spec: Spec) -> bytes:
    config: dict[str, JsonValue] = {**vega_config(dark=False), "background": "#ffffff", "padding": 12}
    return vl_convert.vegalite_to_svg({**spec, "config": config}).encode()
