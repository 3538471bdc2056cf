"""A run in a notebook: its headline as a small table that shows itself, and its charts one by one."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import altair as alt
import vl_convert

from refusal_lens.errors import UserError
from refusal_lens.report.charts import PRINT_WIDTH, vega_config
from refusal_lens.report.facts import Facts, HeadlineRow
from refusal_lens.report.inputs import read_inputs
from refusal_lens.report.sections import figures_of, result_sections
from refusal_lens.report.shares import NullShare, Share, interval, percent
from refusal_lens.report.words import headline, verdict_of
from refusal_lens.types import JsonValue

HEADS = (
    "harmful answered: untouched", "ablated", "random ablated", "harmless refused: untouched", "added", "random added",
)  # fmt: skip


@dataclass(frozen=True)
class RunChart:
    """A chart of a run that shows itself in a notebook as a picture: altair's own way fetches scripts from the network.

    Attributes:
        chart: The altair chart, to be changed or combined.
    """

    chart: alt.TopLevelMixin

    @property
    def svg(self) -> str:
        """The chart as SVG."""
        return vl_convert.vegalite_to_svg(self.chart.to_dict())

    def save(self, file: str | Path) -> None:
        """Write the chart; the suffix says how: svg, png, pdf, html or json.

        Args:
            file: Where to.
        """
        self.chart.save(str(file), inline=True)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:  # noqa: ARG002
        return {"image/svg+xml": self.svg, "text/plain": "a chart of a run"}


def run_html(run_dir: Path) -> str:
    """The headline of a run as HTML without script or style sheet; every word of the run is escaped.

    Args:
        run_dir: The run, finished or not.

    Returns:
        A piece of HTML.

    Raises:
        RunError: There is no run in the folder.
    """
    facts = Facts(read_inputs(run_dir))
    title = f"<p><b>{escape(facts.model)}</b>, run in <code>{escape(str(run_dir))}</code></p>"
    if not facts.headline:
        return f"{title}<p>No rates yet.</p>"
    head = "".join(f"<th>{name}</th>" for name in ("language", *HEADS))
    rows = "".join(_row(row) for row in facts.headline)
    said = "".join(f"<p>{escape(statement.text)}</p>" for statement in headline(facts))
    verdict = verdict_of(facts)
    end = f"<p>Verdict: <b>{escape(verdict[0])}</b>. {escape(verdict[1])}</p>" if verdict else ""
    return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{said}{end}"


def run_chart(run_dir: Path, name: str) -> RunChart:
    """One of the report's charts.

    Args:
        run_dir: The run, finished or not.
        name: The chart's name, that of its file in `RUN/figures`.

    Returns:
        The chart.

    Raises:
        RunError: There is no run in the folder.
        UserError: This run has no such chart; the message names those it has.
    """
    figures = {figure.name: figure for figure in figures_of(result_sections(Facts(read_inputs(run_dir))))}
    if name not in figures:
        raise UserError(f"{run_dir}: no chart {name!r}; this run has {', '.join(figures) or 'none yet'}")
    figure = figures[name]
    spec: dict[str, JsonValue] = {**figure.spec, "config": {**vega_config(dark=False), "background": "#ffffff"}}
    if spec.get("width") == "container":
        spec["width"] = max(PRINT_WIDTH, figure.scroll)
    return RunChart(alt.Chart.from_dict(spec))


def _row(row: HeadlineRow) -> str:
    cells = (
        _share(row.harmful_baseline), _share(row.harmful_ablated), _null(row.harmful_random),
        _share(row.harmless_baseline), _share(row.harmless_added), _null(row.harmless_random),
    )  # fmt: skip
    return f"<tr><th>{escape(row.name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _share(share: Share | None) -> str:
    if share is None:
        return "–"
    return "not judged" if share.rate is None else f"{percent(share.rate)} {interval(share)}"


def _null(null: NullShare | None) -> str:
    return "–" if null is None or null.mean is None else percent(null.mean)
