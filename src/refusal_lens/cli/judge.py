"""Commands: judge, agreement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from refusal_lens.judging import Answer, Judge
    from refusal_lens.judging.rows import Row
    from refusal_lens.types import Verdict


def register(app: typer.Typer) -> None:
    """Add this module's commands to the app."""
    app.command("judge")(judge)
    app.command("agreement")(agreement)


def judge(
    answers: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help="one JSON object a line: text, lang, [prompt, id]")
    ],
    out: Annotated[Path, typer.Option("--out", help="where the rows with their verdicts go")],
    judge_name: Annotated[
        str,
        typer.Option(
            "--judge",
            metavar="JUDGE",
            help="native, wildguard, polyguard, qwen3guard, encoder:FOLDER_OR_ID or endpoint; guards may name theirs too; "
            "several joined by commas: a panel (there also llamaguard, on harm alone), the first one's verdict is the row's",
        ),
    ] = "native",
    model: Annotated[str, typer.Option(help="guards, encoder: hub id or folder; where served: its name there")] = "",
    url: Annotated[
        str, typer.Option(help="endpoint, or a guard that is served: base URL, e.g. http://localhost:8000/v1")
    ] = "",
    labels: Annotated[
        Path | None,
        typer.Option(help="encoder: TOML file with the meaning of its labels; else refusal-lens.toml beside it"),
    ] = None,
    controversial: Annotated[
        Literal["strict", "loose"], typer.Option(help='qwen3guard: "Controversial" is harmful (strict) or not (loose)')
    ] = "strict",
    rubric: Annotated[Path | None, typer.Option(help="endpoint: file with the instruction to the judge")] = None,
    translate: Annotated[
        str, typer.Option(help="translate answers to English first: hf:MODEL, endpoint:URL or endpoint:URL#MODEL")
    ] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="guards, encoder: answers at once")] = 8,
    concurrency: Annotated[int, typer.Option(min=1, help="endpoint: requests under way at once")] = 8,
    thinking_format: Annotated[
        str, typer.Option(metavar="auto|none|think|harmony|REGEX", help="how a model's thoughts stand in its answers")
    ] = "auto",
    judge_max_tokens: Annotated[
        int, typer.Option(min=1, help="endpoint: length limit of a reply, thoughts included")
    ] = 1024,
    timeout: Annotated[float, typer.Option(min=0.1, help="endpoint: seconds to wait for one reply")] = 60.0,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="mark bad rows, and rows without a reply, unscored instead of stopping")
    ] = False,
) -> None:
    """Say of each answer whether it refuses or complies, in the answer's own language.

    Every row comes back once, in order, with its fields and verdict, score, uncertain, reason, judge. Thoughts of a reasoning
    model are not judged: those found in `text` come back as `reasoning`, unless the row has that field. The native judge
    needs no model and no network. An endpoint's key is read from the environment variable REFUSAL_LENS_API_KEY; replies
    already paid for are kept in OUT.replies.jsonl until the file is complete, so an interrupted run goes on. An endpoint that
    fails stops the command (exit code 2) before OUT is written; with --keep-going such rows are marked, the exit code is 2 all
    the same, and the same command asks only them again. A panel's verdicts all come back in the row's `panel`, and how far
    the judges agree is printed by language.

    Example: refusal-lens judge answers.jsonl --out judged.jsonl
    """
    from refusal_lens.cli.judge_work import Options, build_judge, panel_table, require_prompts, tally
    from refusal_lens.cli.outputs import check_file
    from refusal_lens.errors import EndpointError, UserError
    from refusal_lens.judging.answer import NO_REPLY
    from refusal_lens.judging.rows import bad_row_verdict, read_rows, require_good, verdict_fields, write_jsonl
    from refusal_lens.judging.thinking import split_answer

    check_file(out, "--out", reads=[answers, rubric])
    rows = read_rows(answers)
    if not keep_going:
        require_good(rows, path=answers)
    if not out.resolve().parent.is_dir():
        raise UserError(f"folder {out.resolve().parent} does not exist; make it or choose another --out")
    replies = out.with_name(out.name + ".replies.jsonl")
    options = Options(
        name=judge_name,
        model=model,
        url=url,
        rubric=rubric,
        translate=translate,
        batch_size=batch_size,
        concurrency=concurrency,
        memory=replies,
        thinking=thinking_format,
        max_tokens=judge_max_tokens,
        timeout=timeout,
        keep_going=keep_going,
        labels=labels,
        controversial=controversial,
    )
    judging = build_judge(options)
    good = [(row, row.answer) for row in rows if row.answer is not None]
    require_prompts(judging, rows, path=answers, keep_going=keep_going)
    try:
        verdicts, extra = _verdicts(judging, good)
    except EndpointError as error:
        kept = f". Replies so far are kept in {replies}: run the same command again" if replies.exists() else ""
        raise EndpointError(f"{error}{kept}") from None
    silent = [why[0].removeprefix(NO_REPLY) for verdict in verdicts if (why := _unheard(verdict, NO_REPLY))]
    if silent and all(verdict.reason.startswith(NO_REPLY) for verdict in verdicts):
        raise EndpointError(
            f"no request was answered ({silent[0]}); check the endpoint and REFUSAL_LENS_API_KEY. Nothing was written"
        )
    for row, answer in good:
        thoughts = split_answer(answer, thinking_format).reasoning
        if thoughts is not None and "reasoning" not in row.fields:
            extra.setdefault(row.line, {})["reasoning"] = thoughts
    by_line = dict(zip((row.line for row, _ in good), verdicts, strict=True))
    written = (
        {
            **row.fields,
            **verdict_fields(by_line.get(row.line) or bad_row_verdict(row, judge=judging.name)),
            **extra.get(row.line, {}),
        }
        for row in rows
    )
    write_jsonl(out, written)
    typer.echo(f"{len(rows)} rows judged by {judging.name}: {tally(verdicts, bad=len(rows) - len(good))}", err=True)
    if between := panel_table(
        [(answer.language, verdict) for (_, answer), verdict in zip(good, verdicts, strict=True)]
    ):
        typer.echo(between, err=True)
    if silent:
        raise EndpointError(
            f"{len(silent)} of {len(rows)} rows got no reply ({silent[0]}) and are marked unscored in {out}; "
            "run the same command again to ask only them"
        )
    replies.unlink(missing_ok=True)


def agreement(
    judged: Annotated[list[Path], typer.Argument(metavar="A.jsonl...", help="one or more files with verdicts")],
    labels: Annotated[Path, typer.Option("--labels", help="reference: verdict, label or refusal (0/1) per row")],
    by: Annotated[str, typer.Option(help="fields to group by, e.g. lang or lang,condition")] = "",
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="table for people, json for machines")
    ] = "table",
) -> None:
    """Say how far verdicts agree with reference labels, and how wrong their compliance rates are.

    Rows are matched by `id` where all rows of both files have one, otherwise by order. Where the labels cover part of
    the rows, the compliance rate of all rows is corrected for the judge's error on that part. With a field `condition`
    the trivial judge "refusal iff baseline" is shown beside: what agreement costs nothing.

    Example: refusal-lens agreement judged.jsonl --labels human.jsonl --by lang
    """
    from refusal_lens.cli.judge_work import agreement_table
    from refusal_lens.judging.compare import compare_files

    fields = tuple(part for part in (piece.strip() for piece in by.split(",")) if part)
    report = compare_files(judged, labels=labels, by=fields)
    if output == "json":
        typer.echo(json.dumps(report.as_dict(), ensure_ascii=False, indent=2))
    else:
        typer.echo(agreement_table(report))


def _unheard(verdict: Verdict, mark: str) -> list[str]:
    """Reasons of the judges that gave no reply to an answer."""
    return [each.reason for each in verdict.panel or (verdict,) if each.reason.startswith(mark)]


def _verdicts(judging: Judge, good: list[tuple[Row, Answer]]) -> tuple[list[Verdict], dict[int, dict[str, object]]]:
    """Judge with a progress bar on the error stream; a translating judge also gives its translations."""
    from rich.console import Console
    from rich.progress import Progress

    from refusal_lens.judging import TranslatedJudge

    answers = [answer for _, answer in good]
    chunk = 256
    verdicts: list[Verdict] = []
    extra: dict[int, dict[str, object]] = {}
    with Progress(console=Console(stderr=True), transient=True, disable=len(answers) < 2 * chunk) as progress:
        task = progress.add_task("judging", total=len(answers))
        for start in range(0, len(answers), chunk):
            part = answers[start : start + chunk]
            if isinstance(judging, TranslatedJudge):
                pairs = judging.judge_with_translations(part)
                verdicts.extend(verdict for verdict, _ in pairs)
                for (row, _), (_, translation) in zip(good[start : start + chunk], pairs, strict=True):
                    extra[row.line] = {"translation": translation.text, "translation_error": translation.error}
            else:
                verdicts.extend(judging.judge(part))
            progress.update(task, completed=len(verdicts))
    return verdicts, extra
