"""The report of a run: one self-contained HTML page, its figures as files, and what an audit prints at its end.

Reads a run directory, never a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refusal_lens.report.answers import View, build_view
from refusal_lens.report.facts import Facts, HeadlineRow
from refusal_lens.report.inputs import is_current, read_inputs
from refusal_lens.report.shares import NullShare, Share
from refusal_lens.report.words import Statement, headline, verdict_of

if TYPE_CHECKING:
    from refusal_lens.report.notebook import RunChart


def build_report(
    run_dir: Path, *, out: Path | None = None, reveal: bool = False, paper: bool = False, bench: Path | None = None
) -> Path:
    """Build the report of a run, its figures as SVG and PDF, and the CSV files its tables lack.

    Args:
        run_dir: The run, finished or not.
        out: Where the page goes; None for `RUN/report.html`. The figures always go to `RUN/figures`.
        reveal: Include completion texts; the page is then readable by its owner alone.
        paper: Put the paper's recorded values beside the run's.
        bench: Folder of `defence-bench` whose defences stand on the page too.

    Returns:
        The page.

    Raises:
        RunError: There is no run in the folder.
        DataError: The bench has no readable table.
        StorageError: Something cannot be written.
    """
    from refusal_lens.report import page  # the chart libraries take a second to load; the rest of this room needs none

    return page.build_report(run_dir, out=out, reveal=reveal, paper=paper, bench=bench)


def build_figure2(runs: Sequence[Path], *, sources: Sequence[str], out: Path) -> Path:
    """Build the paper's Figure 2 from runs; see `page.build_figure2`."""
    from refusal_lens.report import page

    return page.build_figure2(runs, sources=sources, out=out)


def run_chart(run_dir: Path, name: str) -> RunChart:
    """One of a run's charts that shows and saves itself; see `notebook.run_chart`."""
    from refusal_lens.report import notebook

    return notebook.run_chart(run_dir, name)


def run_html(run_dir: Path) -> str:
    """The headline of a run as a piece of HTML; see `notebook.run_html`."""
    from refusal_lens.report import notebook

    return notebook.run_html(run_dir)


def save_run_figures(run_dir: Path, folder: Path) -> list[Path]:
    """Write every figure of a run's page as SVG, PDF, PNG and CSV; see `page.save_run_figures`."""
    from refusal_lens.report import page

    return page.save_run_figures(run_dir, folder)


def build_comparison(runs: Sequence[Path], *, out: Path, paper: bool = False) -> Path:
    """Build one page that puts two or more runs side by side, paired with the first where the prompts match.

    Args:
        runs: Run directories, at least two; the first is the reference.
        out: Where the page goes.
        paper: Put the paper's recorded values beside every run's.

    Returns:
        The page.

    Raises:
        RunError: One of the folders holds no run.
        DataError: A run has no readable table of verdicts.
        UserError: One run is named twice.
        StorageError: The page cannot be written.
    """
    from refusal_lens.report import page

    return page.build_comparison(runs, out=out, paper=paper)


def build_figure1(runs: Sequence[Path], *, paper: bool, out: Path) -> Path:
    """Build the paper's Figure 1 from runs, with the published values beside where asked; see `page.build_figure1`."""
    from refusal_lens.report import page

    return page.build_figure1(runs, paper=paper, out=out)


__all__ = [
    "Facts",
    "HeadlineRow",
    "NullShare",
    "Share",
    "Statement",
    "View",
    "build_comparison",
    "build_figure1",
    "build_figure2",
    "build_report",
    "build_view",
    "headline",
    "is_current",
    "read_inputs",
    "run_chart",
    "run_html",
    "save_run_figures",
    "verdict_of",
]
