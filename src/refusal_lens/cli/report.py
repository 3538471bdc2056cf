"""Commands: report; and what an audit prints when it is done: the headline table and where the report lies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from refusal_lens.report import HeadlineRow, NullShare, Share

NOTHING = "-"
HELP = """Build the report of a run: one HTML page that works offline, and its figures as SVG and PDF.

Example: refusal-lens report runs/qwen --open

Two runs or more give one page that compares them with the first: refusal-lens report runs/v1 runs/v2 --out page.html

Completion texts stay out of the page unless you ask with --reveal; a page with texts is readable by you alone.
"""


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command(help=HELP)(report)


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN [RUN..]", help="run directories of audits; two or more are compared")
    ],
    reveal: Annotated[bool, typer.Option("--reveal", help="show completion texts")] = False,
    with_paper: Annotated[
        bool, typer.Option("--with-paper", help="put the paper's recorded values beside the run's")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="where the page goes  [default: RUN/report.html]")] = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="also write every figure as SVG, PDF, PNG and CSV into this folder"),
    ] = None,
    defences: Annotated[
        Path | None, typer.Option(metavar="BENCH", help="put the defences of a defence-bench folder on the page too")
    ] = None,
    monitor: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="put the curves of a monitor on the page too, after `monitor evaluate`"),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
) -> None:
    """Build the report of a run."""
    from rich.console import Console

    from refusal_lens.cli.outputs import check_folder
    from refusal_lens.errors import UserError
    from refusal_lens.report import build_comparison, build_report, save_run_figures

    if len(runs) > 1 and (out is None or reveal):
        raise UserError("a page that compares runs needs --out FILE, and shows no texts (leave --reveal out)")
    for name, given in (("--defences", defences), ("--monitor", monitor)):
        if given is not None and len(runs) > 1:
            raise UserError(f"{name} stands on the page of one run: name one")
    if figures is not None:
        check_folder(figures, "--figures")
        if len(runs) > 1:
            raise UserError("--figures writes the figures of one run: name one")
        if figures.absolute().resolve().is_relative_to(runs[0].absolute().resolve()):
            raise UserError(
                f"--figures {figures}: lies in the run, where `verify` would call it foreign; name a place outside"
            )
    with Console(stderr=True).status("building the report"):
        if figures is not None:
            save_run_figures(runs[0], figures, bench=defences, monitor=monitor)
        page = (
            build_report(runs[0], out=out, reveal=reveal, paper=with_paper, bench=defences, monitor=monitor)
            if len(runs) == 1
            else build_comparison(runs, out=out or Path(), paper=with_paper)
        )
    typer.echo(str(page))
    if show:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())


def write_report_and_headline(run: Path, *, changed: bool, reveal: bool) -> None:
    """Build the report where it is out of date, print the headline table and the report's path.

    Args:
        run: Run directory of an audit.
        changed: Whether this call computed anything.
        reveal: Show completion texts in the page.
    """
    from rich.console import Console

    from refusal_lens.report import build_report, is_current
    from refusal_lens.rundir import RunDir

    page = RunDir.open(run).report_path
    if changed or not is_current(run, reveal=reveal):
        with Console(stderr=True).status("building the report"):
            page = build_report(run, reveal=reveal)
    print_headline(run)
    typer.echo(f"report: {_shown(page)}")


def print_headline(run: Path) -> None:
    """Print what a run found: its sentences and the headline table, languages as rows.

    Args:
        run: Run directory of an audit.
    """
    from rich.console import Console
    from rich.text import Text

    from refusal_lens.report import Facts, headline, read_inputs, verdict_of

    console = Console(width=None if sys.stdout.isatty() else 100)
    facts = Facts(read_inputs(run))
    console.print()
    if facts.headline:
        console.print(_table(facts.headline, console))
        console.print(
            Text(
                "harmful: percent answered; harmless: percent refused; of judged answers [95 % interval]"
                + ("; random: mean over the random directions" if facts.valid_sources else ""),
                style="dim",
            )
        )
    for statement in headline(facts):
        console.print(Text(statement.text, style="yellow" if statement.tone == "caution" else ""))
    verdict = verdict_of(facts)
    if verdict is not None:
        console.print(Text.assemble("verdict: ", (verdict[0], "bold"), f". {verdict[1]}" if verdict[1] else ""))


def _table(rows: tuple[HeadlineRow, ...], console: Console) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    narrow = console.width < 90
    groups = {
        "harmful:": {
            "baseline": [_share(row.harmful_baseline, narrow) for row in rows],
            "ablated": [_share(row.harmful_ablated, narrow) for row in rows],
            "random": [_null(row.harmful_random) for row in rows],
        },
        "harmless:": {
            "baseline": [_share(row.harmless_baseline, narrow) for row in rows],
            "added": [_share(row.harmless_added, narrow) for row in rows],
            "random": [_null(row.harmless_random) for row in rows],
        },
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("")
    columns: list[list[str]] = []
    for group, heads in groups.items():
        filled = {head: cells for head, cells in heads.items() if set(cells) != {NOTHING}}
        for index, (head, cells) in enumerate(filled.items()):
            table.add_column(f"{'' if index else group}\n{head}", justify="right", no_wrap=True)
            columns.append(cells)
    for row, *cells in zip(rows, *columns, strict=True):
        table.add_row(Text(row.name), *(Text(cell) for cell in cells))
    return table


def _share(share: Share | None, narrow: bool) -> str:
    from refusal_lens.report.shares import interval

    if share is None:
        return NOTHING
    if share.rate is None:
        return "not judged"
    return f"{100 * share.rate:.0f}" if narrow else f"{100 * share.rate:.0f} {interval(share)}"


def _null(null: NullShare | None) -> str:
    return NOTHING if null is None or null.mean is None else f"{100 * null.mean:.0f}"


def _shown(page: Path) -> Path:
    """The page's path, relative to the working directory where it lies inside."""
    here = Path.cwd()
    return page.relative_to(here) if page.is_relative_to(here) else page
