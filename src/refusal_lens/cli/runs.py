"""Commands on a finished or unfinished run: status, rates, verify, scrub.

Results go to stdout (the machine formats hold nothing else), remarks to stderr. Names from a run directory are escaped
before they reach a terminal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_lens.cli.outputs import say_inexact
from refusal_lens.cli.printing import All, Format, SummaryFormat, print_rates_grid, print_rows
from refusal_lens.errors import EXIT_USER, RunError, UserError

if TYPE_CHECKING:
    from refusal_lens.rundir import RunDir
    from refusal_lens.types import JsonValue

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="run directory")]
COLUMNS: tuple[str, ...] = (
    "intervention",
    "source",
    "language",
    "prompts",
    "k",
    "n",
    "unscored",
    "rate",
    "low",
    "high",
)
_LISTED = 200


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command()(status)
    app.command()(rates)
    app.command()(verify)
    app.command()(scrub)


def status(
    run: RunArgument,
    format: Annotated[SummaryFormat, typer.Option(help="table or json")] = SummaryFormat.table,  # noqa: A002
) -> None:
    """Show how far a run is, step by step, what failed, who holds it and about how long it still takes.

    Example: refusal-lens status runs/qwen --format json
    """
    from refusal_lens.rundir import RunDir, live_holder, progress, read_holder

    opened = RunDir.open(run)
    found = progress(opened)
    lock = opened.root / "lock"
    holder, live = read_holder(lock), live_holder(lock) is not None
    failures, left = _failures(opened), _seconds_left(opened)
    complete = found.complete and ("rates" not in found.steps or (opened.tables_dir / "rates.parquet").exists())
    if format is SummaryFormat.json:
        steps = {name: {"done": step.done, "total": step.total} for name, step in found.steps.items()}
        typer.echo(json.dumps({"steps": steps, "complete": complete}, indent=1))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from refusal_lens.cli.plain import plain
    from refusal_lens.executors.pace import duration

    console = Console()
    table = Table("step", "done", "total")
    for name, step in found.steps.items():
        table.add_row(Text(plain(name, one_line=True)), str(step.done), str(step.total))
    console.print(table)
    for task_id, error in sorted(failures.items()):
        console.print(
            Text(f"failed: {plain(task_id, one_line=True)}: {plain(error.partition(chr(10))[0], one_line=True)}")
        )
    if holder is not None:
        who = plain(str(holder), one_line=True)
        console.print(Text(f"held by {who}" if live else f"left by {who}, which is gone"))
    if left is not None:
        console.print(Text(f"about {duration(left)} left of the steps begun, at the pace so far"))
    console.print(Text("complete" if complete else f"not complete: refusal-lens resume {run}"))


def rates(
    run: RunArgument,
    format: Annotated[Format, typer.Option(help="table, csv or json")] = Format.table,  # noqa: A002
    prompt_set: Annotated[
        str | None,
        typer.Option(help="a further test set of the run (see --prompt-sets of audit)  [default: the main one]"),
    ] = None,
    everything: All = False,
) -> None:
    """Print compliance rates: complied k of n judged answers, with the 95 % interval, and how many could not be judged.

    Example: refusal-lens rates runs/qwen --format csv > rates.csv
    """
    from refusal_lens.rundir import RunDir

    rows = _rate_rows(RunDir.open(run), prompt_set)
    say_inexact(run)
    if format is Format.table and not everything:
        print_rates_grid(rows)
    else:
        print_rows(rows, COLUMNS, format)
        if format is Format.table:
            typer.echo(
                "k of n judged answers comply, to harmless prompts too; without --all, refusals count there", err=True
            )


def verify(
    run: RunArgument,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="PUB", help="also check the run's signature with this public key (PEM)"),
    ] = None,
) -> None:
    """Recompute every digest of a run, follow the chain to the final tables, and derive the rates again from the verdicts.

    Prints OK and exits 0, or lists what is off and exits 2. An unfinished run can be OK: what is there is sound.

    Example: refusal-lens verify runs/qwen

    With --key also: the signature (`refusal-lens sign`) is that key's, and the run is what was signed.
    """
    from refusal_lens.cli.plain import plain
    from refusal_lens.cli.rederive import rederive_rates
    from refusal_lens.rundir import RunDir, verify_chain

    opened = RunDir.open(run)
    found = verify_chain(opened)
    problems = [*found.problems, *rederive_rates(opened)]
    if key is not None:
        from refusal_lens.seals import check_signature

        problems += check_signature(run, key)
    notes = f"{found.files} files hashed"
    if found.scrubbed:
        notes += f", text of {found.scrubbed} scrubbed (digests kept)"
    if found.unfinished:
        notes += f", {found.unfinished} tasks not finished"
    if key is not None and not problems:
        notes += ", signed by this key"
    if not problems:
        typer.echo(f"OK: {notes}")
        return
    for line in problems:
        typer.echo(plain(line, one_line=True))
    typer.echo(
        f"{len(problems)} problems ({notes}); `refusal-lens resume {run}` sets damaged files aside and repairs",
        err=True,
    )
    raise typer.Exit(EXIT_USER)


def scrub(run: RunArgument) -> None:
    """Remove all completion text from a run (and its --store); verdicts, rates and the chain of digests stay verifiable.

    What was removed cannot be brought back. The report is removed too, since it may show text; `refusal-lens report` writes it
    again without.

    Example: refusal-lens scrub runs/qwen
    """
    from refusal_lens.rundir import RunDir, Store
    from refusal_lens.rundir import scrub as remove

    opened = RunDir.open(run)
    done = remove(opened)
    line = f"scrubbed: {done.outputs} files with text removed, {done.copies} set-aside copies removed"
    if done.report:
        line += f"; the report was removed too, `refusal-lens report {run}` writes it again without text"
    typer.echo(line)
    url = _setting(opened, "transport", "store")
    if isinstance(url, str):
        Store(url).push_scrubbed(opened)
        typer.echo("its store was scrubbed, too")


def _rate_rows(run: RunDir, prompt_set: str | None) -> list[dict[str, str | int | float | None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run.tables_dir / "rates.parquet"
    if not path.is_file():
        raise RunError(f"{run.root}: no rates yet; `refusal-lens resume {run.root}` finishes the run")
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise RunError(
            f"{path}: damaged ({type(error).__name__}); `refusal-lens resume {run.root}` repairs it"
        ) from None
    if rows and not set(COLUMNS) <= set(rows[0]):
        raise RunError(f"{path}: is no table of rates; `refusal-lens resume {run.root}` repairs it")
    further = _further_sets(run)
    if prompt_set is not None and prompt_set not in further:
        raise UserError(f"--prompt-set {prompt_set}: this run has {', '.join(sorted(further)) or 'no further sets'}")
    hidden = further - {prompt_set}
    wanted = [
        row for row in rows if row.get("prompt_set") not in hidden and prompt_set in {None, row.get("prompt_set")}
    ]
    return [{name: row[name] for name in COLUMNS} for row in wanted]


def _further_sets(run: RunDir) -> set[str]:
    names = _setting(run, "data", "prompt_sets")
    return {str(name) for name in names} if isinstance(names, list) else set()


def _setting(run: RunDir, section: str, name: str) -> JsonValue:
    """A setting of the run's configuration; None where the header has none."""
    config = run.header.get("config")
    table = config.get(section) if isinstance(config, dict) else None
    return table.get(name) if isinstance(table, dict) else None


def _seconds_left(run: RunDir) -> float | None:
    """Seconds until the steps begun are done, at the pace of their records; None where nothing of them is left."""
    from refusal_lens.executors.pace import Pace
    from refusal_lens.rundir import read_plan

    tasks, workers = read_plan(run), _setting(run, "transport", "workers")
    pace = Pace([task.task_id for task in tasks], workers=workers if type(workers) is int and workers > 0 else 1)
    for task in tasks:
        record = run.record(task.task_id)
        if record is not None and record.key == run.key(task):
            pace.add(task.task_id, record.seconds)
    return pace.left({})


def _failures(run: RunDir) -> dict[str, str]:
    path = run.root / "failures.json"
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    listed = list(content.items())[:_LISTED] if isinstance(content, dict) else []
    return {str(name): str(error) for name, error in listed}
