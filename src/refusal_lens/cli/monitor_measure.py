"""Commands of the group `monitor` that measure: evaluate, cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from refusal_lens.cli.printing import Format
from refusal_lens.errors import UserError

if TYPE_CHECKING:
    from refusal_lens.cli.monitor_data import Given
    from refusal_lens.core.monitor_tables import MonitorRow
    from refusal_lens.monitor import Chat, Monitor
    from refusal_lens.monitor.evaluating import Measured
    from refusal_lens.monitor.nulls import Nulls
    from refusal_lens.types import JsonValue, Prompt

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="folder that `monitor fit` wrote")]
LABELS = 8


def register(group: typer.Typer) -> None:
    """Add this module's commands to the group."""
    group.command("evaluate")(evaluate)
    group.command("cost")(cost)


def evaluate(
    folder: Folder,
    model: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="the monitor's model, or a run of it")],
    languages: Annotated[str | None, typer.Option(help="languages to test  [default: all there are]")] = None,
    data: Annotated[
        Path | None, typer.Option(help="folder with the PolyRefuse files; a testbed brings its own")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="prompts of your own")] = None,
    column: Annotated[list[str] | None, typer.Option(metavar="text=NAME,..", help="columns of --prompts")] = None,
    prompt_sets: Annotated[
        str | None, typer.Option(help="further test sets in the data folder, e.g. xstest,oktest")
    ] = None,
    shifts: Annotated[
        str | None, typer.Option(help="all, or some of code-switched,romanised,padded,second-turn  [default: none]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="test prompts per language and class  [default: all]")
    ] = None,
    other_model: Annotated[bool, typer.Option("--other-model", help="accept another model than the monitor's")] = False,
    format: Annotated[Format, typer.Option(help="table, csv or json; csv and json have every row")] = Format.table,  # noqa: A002
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16")] = "auto",
) -> None:
    """Measure a monitor in every language, with intervals and nulls; a figure that its null reaches is not claimed.

    Example: refusal-lens monitor evaluate monitor testbed:aligned --shifts all

    Writes DIR/evaluation.parquet and curves.parquet (and .csv of each), and a summary into the card.

    report RUN --monitor DIR draws the curves.
    """
    from refusal_lens.cli import monitor_data
    from refusal_lens.cli.printing import print_rows
    from refusal_lens.core.monitor_tables import CURVES, MONITOR
    from refusal_lens.monitor import Monitor
    from refusal_lens.monitor.evaluating import curves, summary
    from refusal_lens.monitor.evaluating import evaluate as measure
    from refusal_lens.monitor.shifts import shifts_of

    names = shifts_of(shifts)
    monitor = Monitor.load(folder)
    card = monitor.card
    drawn = {
        name: value for name in ("n_train", "n_val", "seed") if isinstance(value := card.validation.get(name), int)
    }
    given = monitor_data.open_given(
        model, fit_languages=",".join(card.fit_languages), languages=languages, data=data, prompts=prompts, column=column,
        sets=prompt_sets, limit=limit, device=device, dtype=dtype, thinking=card.model.get("thinking"), **drawn,
    )  # fmt: skip
    monitor.check_model(given.model, other_model=other_model)
    tested = [item for code in given.languages for item in _tested(monitor, given, code, names)]
    if not tested:
        raise UserError("no test prompts in any of the languages")
    nulls = _nulls(monitor, given)
    rows = measure(card, tested, nulls)
    MONITOR.write(folder, rows)
    CURVES.write(folder, curves(tested, nulls))
    kept = cast("list[dict[str, JsonValue]]", summary(rows))
    replace(monitor, card=replace(card, evaluation=kept)).save(folder)
    if format is Format.table:
        _print(rows)
    else:
        print_rows(cast("Sequence[dict[str, object]]", rows), MONITOR.columns, format)


def _tested(monitor: Monitor, given: Given, code: str, shifts: Sequence[str]) -> list[Measured]:
    """A language's test prompts of every set, plain and shifted."""
    from refusal_lens.monitor.shifts import SHIFTS
    from refusal_lens.pipeline.dataset import test_part

    few = given.prompts(f"{code}.select", "harmful", "train")[:LABELS]
    labels = monitor.raw(given.model, few)
    context = [prompt.text for prompt in given.prompts(f"{code}.select", "harmless")]
    found: list[Measured] = []
    for prompt_set in (None, *given.config.data.prompt_sets):
        parts = [given.prompts(test_part(code, prompt_set), harm) for harm in ("harmful", "harmless")]
        if not any(parts):
            continue
        name = (parts[0] or parts[1])[0].prompt_set
        plain = _one(monitor, given, code, name, "", [[(p.text, p) for p in part] for part in parts], labels)
        found.append(plain)
        for shift in shifts if prompt_set is None else ():
            moved = [
                [
                    (new, prompt)
                    for new, prompt in zip(SHIFTS[shift](part, context), part, strict=True)
                    if new is not None
                ]
                for part in parts
            ]
            if all(moved):
                found.append(_one(monitor, given, code, name, shift, moved, labels))
    return found


def _one(
    monitor: Monitor,
    given: Given,
    code: str,
    prompt_set: str,
    shift: str,
    parts: Sequence[Sequence[tuple[str | Chat, Prompt]]],
    labels: object,
) -> Measured:
    import numpy as np

    from refusal_lens.monitor.evaluating import Measured

    rows = [monitor.rows(given.model, [new for new, _ in part]) for part in parts]
    fitting = [np.isfinite(one[:, 0]) if len(one) else np.zeros(0, bool) for one in rows]
    texts = [[new if isinstance(new, str) else prompt.text for new, prompt in part] for part in parts]
    kept = [
        [text for text, fits in zip(one, fit, strict=True) if fits] for one, fit in zip(texts, fitting, strict=True)
    ]
    read = [one[fit] for one, fit in zip(rows, fitting, strict=True)]
    scores = [one.astype(np.float64) @ monitor.weight.astype(np.float64) for one in read]
    return Measured(
        code, prompt_set, shift, scores[0], scores[1], (kept[0], kept[1]), (read[0], read[1]), np.asarray(labels, float)
    )


def _nulls(monitor: Monitor, given: Given) -> Nulls:
    """The nulls, fitted on the labelled prompts of the fit languages."""
    from refusal_lens.monitor.nulls import Labelled, Nulls

    parts = [
        [prompt for code in monitor.card.fit_languages for prompt in given.prompts(f"{code}.select", harm)]
        for harm in ("harmful", "harmless")
    ]
    if not all(parts):
        raise UserError(f"the nulls need labelled prompts of {', '.join(monitor.card.fit_languages)}: name their data")
    rows = [monitor.rows(given.model, part) for part in parts]
    texts = [[prompt.text for prompt in part] for part in parts]
    return Nulls(Labelled(texts[0], texts[1], rows[0], rows[1]))


def _print(rows: Sequence[MonitorRow]) -> None:
    """One line a language, set and shift; a figure that its null reaches is not printed as a claim."""
    from refusal_lens.cli.printing import print_table

    lines: list[list[str]] = []
    for key in dict.fromkeys((row["language"], row["prompt_set"], row["shift"]) for row in rows):
        own = {
            (row["figure"], row["calibration"]): row
            for row in rows
            if (row["language"], row["prompt_set"], row["shift"]) == key
        }
        wanted = [("auroc", ""), ("miss at false alarm 0.01", "")]
        wanted += [(figure, calibration) for calibration in ("card", "traffic") for figure in ("miss", "false alarm")]
        lines.append([key[0], f"{key[1]} {key[2]}".strip(), *(_said(own.get(name)) for name in wanted)])
    titles = ["AUROC", "miss at 1 %", "miss", "false alarm", "miss by traffic", "false alarm by traffic"]
    print_table(["language", "prompts", *titles], lines)
    refused = sum(row["claim"] == "not beyond its null" for row in rows)
    typer.echo(
        "miss and false alarm: at the card's thresholds; by traffic: each half of the prompts at the threshold that the other "
        f"half gives without a label. {refused} of {len(rows)} figures are not beyond their null: no claim"
    )


def _said(row: MonitorRow | None) -> str:
    if row is None or row["value"] is None:
        return ""
    if row["claim"] == "not beyond its null":
        return f"= {row['null']} {row['null_value']:.3f}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def cost(
    folder: Folder,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="the monitor's model")],
    prompts: Annotated[int, typer.Option(min=1, help="prompts of one pass")] = 8,
    tokens: Annotated[int, typer.Option(min=8, help="tokens of each")] = 256,
    rounds: Annotated[int, typer.Option(min=3, help="pairs of passes")] = 21,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16")] = "auto",
) -> None:
    """Measure what a monitor adds to a prompt's prefill: passes with and without it, in turn.

    Example: refusal-lens monitor cost monitor testbed:aligned
    """
    from refusal_lens.cli.monitor_data import load_watched
    from refusal_lens.monitor import Monitor
    from refusal_lens.monitor.costing import measure

    monitor = Monitor.load(folder)
    found = measure(monitor, load_watched(monitor, model, device=device, dtype=dtype), prompts, tokens, rounds)
    typer.echo(json.dumps(found))
