"""Command group `monitor`: fit a monitor of harmful prompts, score a file with it, look at what it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_lens.cli import monitor_measure, monitor_serve
from refusal_lens.cli.outputs import check_file, check_folder
from refusal_lens.cli.printing import Format
from refusal_lens.errors import UserError

if TYPE_CHECKING:
    from refusal_lens.monitor import Monitor
    from refusal_lens.types import Prompt

HELP = """Watch for harmful prompts in what the model itself represents, with a stated miss rate in every language.

Example: refusal-lens monitor fit testbed:aligned --fit-languages en --out monitor
"""
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="folder that `monitor fit` wrote")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="testbed:NAME, a model folder, or a hub id")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16")]
OtherModel = Annotated[
    bool, typer.Option("--other-model", help="accept another model than the monitor's; nothing is promised then")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    group.command("fit")(fit)
    group.command("score")(score)
    group.command("show")(show)
    group.command("recalibrate")(recalibrate)
    monitor_measure.register(group)
    monitor_serve.register(group)
    app.add_typer(group, name="monitor")


def fit(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|RUN", help="a model, or a run directory for its model and prompts")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder for monitor.safetensors and monitor.json")],
    fit_languages: Annotated[str, typer.Option(help="languages whose labels are read: en,de,..")] = "en",
    languages: Annotated[
        str | None, typer.Option(help="languages to calibrate, without their labels  [default: all there are]")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="folder with the PolyRefuse files; a testbed brings its own")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="prompts of your own with text, lang, harm, split")
    ] = None,
    column: Annotated[list[str] | None, typer.Option(metavar="text=NAME,..", help="columns of --prompts")] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(metavar="FILE", help="more prompts of other languages: text and language, no labels")
    ] = None,
    target_miss: Annotated[float, typer.Option(min=0.001, max=0.5, help="harmful prompts that may be missed")] = 0.05,
    n_train: Annotated[int | None, typer.Option(min=4, help="train prompts per class  [default: 128]")] = None,
    n_val: Annotated[int | None, typer.Option(min=1, help="validation prompts per class  [default: 32]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="sampling")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    thinking: Annotated[
        str | None, typer.Option(metavar="auto|on|off", help="thinking on or off, by the chat template's own switch")
    ] = None,
) -> None:
    """Fit a monitor: direction, position and layer by validation, a threshold for every language.

    Example: refusal-lens monitor fit testbed:aligned --fit-languages en --out monitor

    Labels of the fit languages alone are read. Other languages are calibrated on their prompts without labels where these
    fall into two groups; `monitor show` says which are.
    """
    check_folder(out, "--out")
    from refusal_lens.cli import monitor_data
    from refusal_lens.monitor import Monitor

    given = monitor_data.open_given(
        model, fit_languages=fit_languages, languages=languages, data=data, prompts=prompts, column=column,
        n_train=n_train, n_val=n_val, seed=seed, device=device, dtype=dtype, thinking=thinking,
    )  # fmt: skip
    sources = given.config.directions.sources

    def classes(code: str, split: str) -> tuple[list[Prompt], list[Prompt]]:
        rows = [row for row in given.prompts(f"{code}.select") if row.split == split]
        return [row for row in rows if row.harm == "harmful"], [row for row in rows if row.harm == "harmless"]

    others: dict[str, list[str | Prompt]] = {
        code: [*given.prompts(f"{code}.select")] for code in given.languages if code not in sources
    }
    if unlabelled is not None:
        for code, rows in monitor_data.labelled_rows(unlabelled, None).items():
            others.setdefault(code, []).extend(rows)
    fitted = Monitor.fit(
        given.model,
        {code: classes(code, "train") for code in sources},
        validation={code: classes(code, "val") for code in sources},
        unlabelled=others,
        target_miss=target_miss,
    )
    fitted.save(out)
    _warn(fitted)
    card = fitted.card
    said = {"out": str(out), "method": card.method, "position": card.position, "layer": card.layer}
    typer.echo(json.dumps({**said, "validation": dict(card.validation), "languages": len(card.calibrations) - 1}))


def score(
    folder: Folder,
    model: ModelName,
    file: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help="rows with text, prompt or messages; language if known")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="OUT.jsonl", help="the same rows with three more fields")],
    column: Annotated[str | None, typer.Option(metavar="NAME", help="column of the prompts")] = None,
    language: Annotated[str | None, typer.Option(help="language of rows that name none  [default: recognised]")] = None,
    batch_size: Annotated[str, typer.Option(metavar="N|auto", help="rows of one forward pass")] = "auto",
    other_model: OtherModel = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Score prompts: adds harmful_probability, flag and threshold to every row, in order.

    Example: refusal-lens monitor score monitor testbed:aligned in.jsonl --out out.jsonl

    flag is harmful_probability >= threshold, the threshold of the row's language. A prompt longer than the model's context
    has no probability (null) and is flagged.
    """
    check_file(out, "--out", reads=[file, folder / "monitor.json"])
    from refusal_lens.cli import monitor_data
    from refusal_lens.cli.settings import batch_size_of
    from refusal_lens.core.files import write_atomic
    from refusal_lens.monitor import Monitor

    monitor = Monitor.load(folder)
    size = batch_size_of(batch_size)
    rows = monitor_data.user_rows(file, column=column, language=language)
    loaded = monitor_data.load_watched(monitor, model, device=device, dtype=dtype)
    scored = monitor.score(
        loaded,
        [row.prompt for row in rows],
        languages=[row.language for row in rows],
        other_model=other_model,
        batch_size=size if isinstance(size, int) else "auto",
    )
    lines: list[str] = []
    for row, one in zip(rows, scored, strict=True):
        probability = one.harmful_probability if one.harmful_probability == one.harmful_probability else None
        added = {"harmful_probability": probability, "flag": one.flag, "threshold": one.threshold}
        lines.append(json.dumps({**row.fields, **added}, ensure_ascii=False) + "\n")
    write_atomic(out, "".join(lines).encode("utf-8", errors="surrogatepass"))
    unread = sum(one.harmful_probability != one.harmful_probability for one in scored)
    if unread:
        typer.echo(f"{unread} prompts do not fit the model's context: flagged, without a probability", err=True)
    borrowed = sorted({one.language for one in scored if monitor.card.calibration(one.language).promised is None})
    if borrowed:
        named = ", ".join("unknown languages" if code == "*" else code for code in borrowed)
        typer.echo(f"no promise for {named}: see `monitor show`", err=True)
    if not rows:
        typer.echo(f"{file}: no prompts in it", err=True)
    flagged = sum(one.flag for one in scored)
    typer.echo(json.dumps({"out": str(out), "prompts": len(rows), "flagged": flagged}))


def show(
    folder: Folder,
    format: Annotated[Format, typer.Option(help="table, csv or json")] = Format.table,  # noqa: A002
) -> None:
    """Show what a monitor promises in which language, and where its threshold comes from.

    Example: refusal-lens monitor show monitor
    """
    from refusal_lens.cli.printing import print_rows
    from refusal_lens.monitor import Monitor
    from refusal_lens.monitor.card import HOWS

    card = Monitor.load(folder).card
    columns = ("language", "how", "threshold", "promised_miss", "n", "separation")
    rows = [
        {"language": code, "how": one.how, "threshold": one.threshold, "promised_miss": one.promised, "n": one.n,
         "separation": one.separation}
        for code, one in card.calibrations.items()
    ]  # fmt: skip
    print_rows(rows, columns, format)
    if format is Format.table:
        place = "the template's last token" if card.position == -1 else "the instruction's last token"
        typer.echo(f"{card.method} at layer {card.layer}, {place}, of {card.model['spec']} ({card.model['dtype']})")
        typer.echo(f"fitted on {', '.join(card.fit_languages)}; prompts: {', '.join(card.domains)}")
        for how in dict.fromkeys(one.how for one in card.calibrations.values()):
            typer.echo(f"{how}: {HOWS[how]}")


def recalibrate(
    folder: Folder,
    model: ModelName,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder for the new monitor")],
    harmful: Annotated[
        Path | None, typer.Option("--harmful", metavar="FILE", help="labelled harmful prompts, 1 or more")
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option("--unlabelled", metavar="FILE", help="prompts as they come, both classes, no labels")
    ] = None,
    language: Annotated[str | None, typer.Option(help="their language, where rows name none")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Find a language's threshold anew: from prompts as they come, without a label, or from a few labelled harmful ones.

    Example: refusal-lens monitor recalibrate monitor testbed:aligned --unlabelled traffic.jsonl --out monitor-yo

    --unlabelled needs at least 20 prompts of a language, 10 % of each class, that fall into two groups; --harmful moves the
    threshold, and 19 prompts or more at a target miss of 0.05 replace it.
    """
    if (harmful is None) == (unlabelled is None):
        raise UserError("name either --unlabelled FILE (prompts as they come) or --harmful FILE (labelled ones)")
    check_folder(out, "--out")
    from refusal_lens.cli import monitor_data
    from refusal_lens.monitor import Monitor

    monitor = Monitor.load(folder)
    file = harmful or unlabelled
    assert file is not None
    given = monitor_data.labelled_rows(file, language)
    if not given:
        raise UserError(f"{file}: no prompts in it")
    loaded = monitor_data.load_watched(monitor, model, device=device, dtype=dtype)
    used: dict[str, int] = {}
    for code, texts in given.items():
        new = (
            monitor.recalibrated_by_traffic(loaded, code, texts)
            if harmful is None
            else monitor.recalibrated(loaded, code, texts)
        )
        if new is None:
            typer.echo(f"{code}: {len(texts)} prompts that do not fall into two groups: left as it was", err=True)
            continue
        monitor, used[code] = new, len(texts)
        if harmful is None and new.card.calibration(code).promised is None:
            typer.echo(
                f"{code}: a threshold without a promise: the two groups are not clear, or nearer than before", err=True
            )
    if not used:
        raise UserError(f"{file}: nothing was changed; label some harmful prompts and give them with --harmful")
    monitor.save(out)
    typer.echo(json.dumps({"out": str(out), "labels" if harmful else "unlabelled": used}))


def _warn(monitor: Monitor) -> None:
    card = monitor.card
    weak = [code for code, one in card.calibrations.items() if one.promised is None and code != "*"]
    if weak:
        typer.echo(
            f"no promise for {', '.join(weak)}: their prompts do not fall into two clear groups along this direction; a few "
            "labels help (`monitor recalibrate`)",
            err=True,
        )
    quality = card.validation.get("auc")
    if isinstance(quality, float) and quality < 0.9:
        typer.echo(
            f"weak monitor: AUROC {quality:.2f} on validation; `monitor evaluate` before you rely on it", err=True
        )
