"""Commands: demo, resume; and how an audit is run from the command line: progress, its log, the headline, exit codes."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_lens.cli.settings import batch_size_of, build
from refusal_lens.core.progress import listening
from refusal_lens.errors import EXIT_INTERRUPTED, NoValidDirection, RunError, UserError

if TYPE_CHECKING:
    from refusal_lens.config import AuditConfig
    from refusal_lens.types import JsonValue

DEMO_MODEL = "testbed:aligned"
DEMO_LIMIT = 25
Quiet = Annotated[
    bool, typer.Option("--quiet", help="nothing but results, warnings and errors; RUN/audit.log has the rest")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="say on stderr what is loaded, checked and set aside")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command()(demo)
    app.command()(resume)


def demo(
    out: Annotated[Path, typer.Option(help="run directory")] = Path("refusal-lens-demo"),
    limit: Annotated[int, typer.Option(min=1, help="test prompts per language and class")] = DEMO_LIMIT,
    reveal: Annotated[bool, typer.Option("--reveal", help="show completion texts in the report")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Audit the embedded testbed model in 14 languages: a whole audit, in about a minute, on any laptop."""
    asked: dict[str, dict[str, JsonValue]] = {"model": {"spec": DEMO_MODEL}, "data": {"limit": limit}}
    settings, by_name = build(asked, {}, None)
    run(settings, out, how=loudness(quiet=quiet, verbose=verbose), reveal=reveal, dry_run=False, asked=by_name)
    typer.echo(
        f"next: refusal-lens report {out} --open, refusal-lens view {out} --open (its answers), "
        "and refusal-lens doctor YOUR_MODEL"
    )


def resume(
    run_directory: Annotated[Path, typer.Argument(metavar="RUN", help="run directory of an interrupted audit")],
    batch_size: Annotated[str | None, typer.Option(help="rows per forward pass, or auto")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="worker processes")] = None,
    executor: Annotated[str | None, typer.Option(help="local or ray")] = None,
    device: Annotated[str | None, typer.Option(help="where to run")] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="show completion texts in the report")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Go on with an audit where it stopped; what is valid is kept, what is damaged is set aside and computed again.

    Example: refusal-lens resume runs/qwen
    """
    from refusal_lens.config import AuditConfig
    from refusal_lens.pipeline import resume_config

    settings = resume_config(run_directory)
    changes = {"batch_size": batch_size_of(batch_size), "workers": workers, "executor": executor, "device": device}
    tree = settings.model_dump(mode="json")
    tree["transport"] |= {key: value for key, value in changes.items() if value is not None}
    how = loudness(quiet=quiet, verbose=verbose)
    run(AuditConfig.model_validate(tree), run_directory, how=how, reveal=reveal, dry_run=False)


def loudness(*, quiet: bool, verbose: bool) -> int:
    """The level from which on log lines reach stderr; from WARNING down to INFO progress is shown, too.

    Args:
        quiet: Errors alone.
        verbose: Log lines, too.

    Returns:
        The level.

    Raises:
        UserError: Both are asked for.
    """
    if quiet and verbose:
        raise UserError("--quiet and --verbose: give one of them")
    return logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING


def run(
    settings: AuditConfig,
    out: Path,
    *,
    how: int,
    reveal: bool,
    dry_run: bool,
    asked: Collection[str] = (),
    replace: bool = False,
) -> None:
    """Run an audit and print what it found, or print its plan.

    Args:
        settings: The audit.
        out: Run directory.
        how: See `loudness`.
        reveal: Show completion texts in the report.
        dry_run: Print the plan and its cost, write nothing.
        asked: Settings given by name.
        replace: Take over another model's run.

    Raises:
        NoValidDirection: No source has a direction; the report is written all the same.
        Exit: It was interrupted.
    """
    from refusal_lens.cli.logs import logging_to, release
    from refusal_lens.cli.outputs import check_folder
    from refusal_lens.cli.report import write_report_and_headline
    from refusal_lens.cli.show import plan_table, progress_of
    from refusal_lens.pipeline import check_takeover, earlier_header, prepare, run_audit
    from refusal_lens.rundir import RunDir, Store

    check_folder(out, "--out")
    unheard = listening(_unheard)  # what is said of an audit is said by its own lines
    try:
        with logging_to(None if dry_run else out, stderr=how) as note, unheard:
            prepared = prepare(settings, asked=asked)
            for line in prepared.dataset.notes:
                note(line)
                if how < logging.ERROR:
                    typer.echo(line, err=True)
            if not replace:
                check_takeover(prepared.identity, prepared.config, out, earlier_header(out))
            if dry_run:
                plan_table(prepared)
                return
            release()
            with progress_of(prepared, note=note, quiet=how >= logging.ERROR) as watchers:
                result = run_audit(
                    prepared,
                    out,
                    replace=replace,
                    on_start=watchers.on_start,
                    on_advance=watchers.on_advance,
                    on_outcome=watchers.on_outcome,
                )
            write_report_and_headline(result.path, changed=result.computed > 0, reveal=reveal)
            if settings.transport.store is not None:
                Store(settings.transport.store).settle(RunDir.open(result.path))
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {_how_to_go_on(out)}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not result.valid_sources and not settings.baseline_only:
        reasons = "; ".join(f"{source}: {why}" for source, why in result.why_none.items())
        unscored = all("no refusal tokens" in why for why in result.why_none.values())
        best = (
            "the report explains" if unscored else "the report explains and shows the best candidate it would have had"
        )
        raise NoValidDirection(
            f"no valid direction ({reasons}); {best}. A model that refuses nothing has none to find; what it answers: "
            f"refusal-lens view {out}, and against your limits: refusal-lens gate {out}"
        )


def _unheard(share: float, words: str) -> None:
    """Nobody listens."""


def _how_to_go_on(out: Path) -> str:
    from refusal_lens.rundir import RunDir

    try:
        RunDir.open(out)
    except RunError:
        return "nothing was written yet"
    return f"nothing finished is lost; go on with `refusal-lens resume {out}`"
