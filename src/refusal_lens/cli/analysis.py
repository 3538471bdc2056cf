"""Commands on finished runs: transfer, geometry, verdict, compare, gate.

Results go to stdout, remarks and failing cells to stderr; csv and json hold nothing else. Every text that comes from a run
directory is escaped before it reaches a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from refusal_lens.cli.outputs import say_inexact
from refusal_lens.cli.printing import (
    All,
    Format,
    SummaryFormat,
    print_compare_grid,
    print_rows,
    print_transfer_grid,
)
from refusal_lens.core.names import DISAGREE
from refusal_lens.errors import GateFailed, RunError, UserError

if TYPE_CHECKING:
    from refusal_lens.types import JsonValue

Cell: TypeAlias = "str | int | float | bool | None"
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="run directory")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command()(transfer)
    app.command()(geometry)
    app.command()(verdict)
    app.command()(compare)
    app.command()(gate)


def transfer(
    run: RunArgument,
    format: Annotated[Format, typer.Option(help="table, csv or json")] = Format.table,  # noqa: A002
    everything: All = False,
) -> None:
    """Show what each direction does to each language: ablation on harmful, addition on harmless prompts.

    Example: refusal-lens transfer runs/qwen --format csv

    Rates are compliance rates over the prompts scored with and without the intervention; difference = rate - baseline_rate.
    """
    from refusal_lens.measure import CONTRACT

    rows = _table(run, "transfer")
    if format is Format.table and not everything:
        print_transfer_grid(rows)
    else:
        columns = (*CONTRACT, "judges") if any(row.get("judges") for row in rows) else CONTRACT
        print_rows([{name: row[name] for name in columns} for row in rows], columns, format)


def geometry(
    run: RunArgument,
    format: Annotated[SummaryFormat, typer.Option(help="table or json")] = SummaryFormat.table,  # noqa: A002
) -> None:
    """Show how parallel the languages' directions are, and how far harmful prompts stand out in each language.

    Example: refusal-lens geometry runs/qwen --format json
    """
    found = _summary(run, "geometry")
    if format is SummaryFormat.json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    columns = ("language", "tier", "auc", "d_prime", "margin", "silhouette", "baseline_compliance")
    separation = found.get("separation")
    rows = [dict(row) for row in separation.values() if isinstance(row, dict)] if isinstance(separation, dict) else []
    print_rows([{name: _cell(row.get(name)) for name in columns} for row in rows], columns, Format.table)
    leak = found.get("leak")
    if isinstance(leak, dict):
        _say(str(leak.get("text") or ""))


def verdict(
    run: RunArgument,
    format: Annotated[SummaryFormat, typer.Option(help="table or json")] = SummaryFormat.table,  # noqa: A002
) -> None:
    """Say whether one direction serves every language, with the numbers that decided it.

    Example: refusal-lens verdict runs/qwen --format json

    Verdicts: universal, partly, language-specific, no valid direction, undefined. The rules are on docs/universality.md.
    """
    found = _summary(run, "verdict")
    if format is SummaryFormat.json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    _say(f"verdict: {found.get('verdict')}")
    reasons, languages = found.get("reasons"), found.get("languages")
    for reason in reasons if isinstance(reasons, list) else []:
        _say(f"  {reason}")
    for code, item in languages.items() if isinstance(languages, dict) else ():
        if isinstance(item, dict):
            _say(f"{code:<4} {item.get('status')!s:<11} {item.get('reason')}")


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN..", help="run directories; the first is the reference")
    ],
    format: Annotated[Format, typer.Option(help="table, csv or json")] = Format.table,  # noqa: A002
    everything: All = False,
) -> None:
    """Put runs side by side: models or checkpoints, cell by cell, paired with the first run where the prompts match.

    Example: refusal-lens compare runs/model-v1 runs/model-v2 --format csv

    Runs of one model that differ in their seed alone also show the noise floor, on stderr.
    """
    from refusal_lens.measure import compare_runs
    from refusal_lens.measure.panel import disagree

    if len(runs) < 2:
        raise UserError("compare needs at least two runs: refusal-lens compare RUN RUN ..")
    names = _names(runs)
    tables = {name: _table(path, "verdicts") for name, path in zip(names, runs, strict=True)}
    panels = {name: rows for name, path in zip(names, runs, strict=True) if (rows := _panel(path))}
    rows = compare_runs(tables, panels=panels)
    if format is Format.table and not everything:
        print_compare_grid(rows)
    else:
        print_rows(rows, tuple(rows[0]) if rows else ("run", "difference"), format)
    if not any(row["paired"] for row in rows):
        typer.echo("no cell of the runs shares a prompt: only the rates can be compared, not the answers", err=True)
    apart = [row for row in rows if disagree(row)]
    if apart:
        named = "run", "intervention", "source", "language", "prompts"
        told = [" ".join(str(row[name]) for name in named if row[name]) for row in apart]
        typer.echo(_plain(f"{DISAGREE} about the direction, no result: {'; '.join(told)}"), err=True)
    _noise(runs)


def gate(
    run: RunArgument,
    max_compliance: Annotated[
        str | None, typer.Option(help="limits on harmful prompts: en=0.05,de=0.10, or one number")
    ] = None,
    max_overrefusal: Annotated[
        str | None, typer.Option(help="limits on refusals of harmless prompts, in the same way")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="earlier run: nothing may have become worse")
    ] = None,
    trust_judge: Annotated[
        list[str] | None, typer.Option(metavar="LANG", help="believe the judge where it is not validated: yo,th or all")
    ] = None,
    allow_undecided: Annotated[
        bool, typer.Option("--allow-undecided", help="exit 0 where nothing but more prompts is missing")
    ] = False,
    prompt_set: Annotated[
        str | None, typer.Option(help="prompt set to check; the run's first one unless given")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="also write the checks as JUnit XML")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="also write them as Markdown")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file with a table [gate]; options given here win")
    ] = None,
    format: Annotated[SummaryFormat, typer.Option(help="table or json")] = SummaryFormat.table,  # noqa: A002
) -> None:
    """Check a model before release: compliance per language, over-refusal, no regression. Exit code 4 unless all is shown.

    Example: refusal-lens gate runs/candidate --max-compliance en=0.05,de=0.05 --max-overrefusal 0.05 --against runs/released

    Looks at the untouched model (the baseline cells) alone. A cell passes when the whole 95 % interval lies within its limit,
    answers that could not be judged counted at their worst; fails when the whole interval lies above; and is undecided
    otherwise, with the number of prompts that would decide. The rules are on docs/gate.md.
    """
    from refusal_lens.config import GateConfig, read_gate
    from refusal_lens.core.files import write_atomic
    from refusal_lens.measure import as_json, markdown, parse_limits, run_gate, standing
    from refusal_lens.measure import junit as junit_of

    asked = GateConfig() if config is None else read_gate(config)
    against = against or (Path(asked.against) if asked.against else None)
    junit = junit or (Path(asked.junit) if asked.junit else None)
    summary = summary or (Path(asked.summary) if asked.summary else None)
    allow_undecided = allow_undecided or asked.allow_undecided
    checks = run_gate(
        _table(run, "verdicts"),
        max_compliance=asked.max_compliance if max_compliance is None else parse_limits(max_compliance),
        max_overrefusal=asked.max_overrefusal if max_overrefusal is None else parse_limits(max_overrefusal),
        against=None if against is None else _table(against, "verdicts"),
        prompt_set=prompt_set or asked.prompt_set,
        trust_judge=[
            code.strip() for part in trust_judge or asked.trust_judge for code in part.split(",") if code.strip()
        ],
    )
    if junit is not None:
        write_atomic(junit, junit_of(checks, suite=run.name, allow_undecided=allow_undecided).encode())
    if summary is not None:
        write_atomic(summary, markdown(checks, suite=run.name, allow_undecided=allow_undecided).encode())
    if format is SummaryFormat.json:
        typer.echo(as_json(checks, allow_undecided=allow_undecided))
    else:
        shown = {"pass": "ok  ", "fail": "FAIL", "undecided": "????"}
        for check in checks:
            _say(f"{shown[check.status]} {check.name}: {check.message}")
        if any(check.status == "undecided" for check in checks):
            typer.echo("????: neither shown to pass nor to fail; each says what would decide", err=True)
    stopping = standing(checks, allow_undecided=allow_undecided)
    if stopping:
        undecided = sum(check.status == "undecided" for check in stopping)
        few = len(stopping) <= 6  # the lines above have said it all; a long list is repeated by name alone
        cells = "; ".join(f"{check.name} ({check.message})" if few else check.name for check in stopping)
        raise GateFailed(f"{len(stopping) - undecided} of {len(checks)} checks failed, {undecided} undecided: {cells}")


def _noise(runs: Sequence[Path]) -> None:
    from refusal_lens.measure import noise_floor
    from refusal_lens.rundir import RunDir

    headers = [RunDir.open(path).header for path in runs]
    seeds = [_setting(header, "seed") for header in headers]
    same = len({str(header.get("model_digest")) for header in headers}) == 1 and None not in seeds
    if not same or len(set(map(str, seeds))) < 2:
        return
    rows = noise_floor([_table(path, "rates") for path in runs])
    if rows:
        worst = max(rows, key=lambda row: float(row["range"] or 0))
        deviations = [float(row["standard_deviation"] or 0) for row in rows]
        cell = " ".join(str(worst[name]) for name in ("intervention", "source", "language", "prompts") if worst[name])
        typer.echo(
            f"noise floor over {len(runs)} seeds: mean standard deviation of a rate {sum(deviations) / len(deviations):.3f}, "
            f"largest range {float(worst['range'] or 0):.3f} ({_plain(cell)})",
            err=True,
        )


def _setting(header: Mapping[str, JsonValue], name: str) -> JsonValue:
    config = header.get("config")
    return config.get(name) if isinstance(config, dict) else None


def _names(runs: Sequence[Path]) -> list[str]:
    """A distinct name for each run: its folder's, the whole path where folders are named alike."""
    short = [path.resolve().name for path in runs]
    if len(set(short)) == len(short):
        return short
    full = [str(path.resolve()) for path in runs]
    if len(set(full)) < len(full):
        raise UserError("the same run is named twice: compare different runs")
    return full


def _table(path: Path, name: str) -> list[dict[str, Cell]]:
    from refusal_lens.pipeline.results import open_run

    rows = open_run(path).table(name).to_pylist()
    say_inexact(path)
    return rows


def _panel(path: Path) -> list[dict[str, Cell]]:
    """Every judge's verdicts; none where one judge alone judged."""
    from refusal_lens.rundir import RunDir

    return _table(path, "panel") if (RunDir.open(path).tables_dir / "panel.parquet").exists() else []


def _summary(path: Path, name: str) -> dict[str, JsonValue]:
    from refusal_lens.core.json_files import read_object
    from refusal_lens.rundir import RunDir

    file = RunDir.open(path).tables_dir / f"{name}.json"
    if not file.exists():
        raise RunError(f"{path}: no {name} yet; finish the run with `refusal-lens resume {path}`")
    say_inexact(path)
    return read_object(file, error=RunError, advice=f"remove it and run `refusal-lens resume {path}`")


def _cell(value: JsonValue) -> Cell:
    return value if value is None or isinstance(value, (str, int, float, bool)) else json.dumps(value)


def _say(text: str) -> None:
    typer.echo(_plain(text))


def _plain(text: str) -> str:
    from refusal_lens.cli.plain import plain

    return plain(text, one_line=True)
