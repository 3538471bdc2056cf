"""The page of answers: every answer with its prompt, verdict and evidence, to be filtered, read and marked; owner only.

One static HTML file and `answers.jsonl`, which holds the same answers for `judge` and `agreement`. What the page offers as
`labels.jsonl` are the reader's own verdicts by the same ids, without any text. All text is untrusted: it is cleaned,
travels as JSON that no parser takes for markup, and the script only ever sets it as text; the content security policy
admits this page's own script and style by digest and no connection.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import jinja2

from refusal_lens.core.files import PRIVATE_FILE, PRIVATE_FOLDER, make_folder, storing, write_atomic
from refusal_lens.core.interventions import declared
from refusal_lens.core.names import BASELINE
from refusal_lens.errors import RunError
from refusal_lens.report.facts import language_name, source_name
from refusal_lens.report.inputs import asset, digest
from refusal_lens.report.text import clean
from refusal_lens.rundir import AnswerRow, RunDir, read_answers, spans
from refusal_lens.types import JsonValue

PAGE, ROWS = "index.html", "answers.jsonl"
MOST = 20_000
"""Answers on one page, where the caller sets no limit: beyond it a browser takes seconds to open the page."""


@dataclass(frozen=True)
class View:
    """What was written: the page, the rows beside it, how many answers they hold, and the limit that was set unasked."""

    page: Path
    rows: Path
    answers: int
    limited: int | None


def build_view(run_dir: Path, *, out: Path, languages: Collection[str] = (), limit: int | None = None) -> View:
    """Write the page of answers and its rows, readable by their owner alone.

    Args:
        run_dir: The run, finished or not.
        out: The folder; made where it is missing.
        languages: Only these; empty for all.
        limit: Answers of each condition, language and class; None for as many as make `MOST` in all.

    Returns:
        Where it lies.

    Raises:
        RunError: No run, nothing judged yet, a damaged file, or all text was scrubbed.
        UserError: The run has no answers in one of the languages.
        StorageError: The folder cannot be written.
    """
    run = RunDir.open(run_dir)
    rows = read_answers(run, languages=languages, limit=limit)
    limited = None
    if limit is None and len(rows) > MOST:
        cells = len({(row["intervention"], row["source"], row["language"], row["prompts"]) for row in rows})
        limited = max(1, MOST // cells)
        rows = read_answers(run, languages=languages, limit=limited)
    if all(row["text"] is None for row in rows):
        raise RunError(
            f"{run.root}: the text of its answers was scrubbed, only verdicts are left; `refusal-lens rates {run.root} --all`"
        )
    page = _page(rows, model=_model(run), limit=limited if limit is None else limit)
    lines = b"".join(json.dumps(_line(row)).encode() + b"\n" for row in rows)  # ASCII: half a surrogate pair survives
    known = {PAGE, ROWS}
    make_folder(out, mode=PRIVATE_FOLDER)
    with storing(out):
        if {item.name for item in out.iterdir()} <= known:
            out.chmod(PRIVATE_FOLDER)  # an empty folder, or one of ours; whose else it is, is not ours to close
    write_atomic(out / ROWS, lines, mode=PRIVATE_FILE)
    write_atomic(out / PAGE, page.encode("utf-8", errors="replace"), mode=PRIVATE_FILE)
    return View(out / PAGE, out / ROWS, len(rows), limited)


def _model(run: RunDir) -> str:
    config = run.header.get("config")
    model = config.get("model") if isinstance(config, dict) else None
    return clean(str(model.get("spec"))) if isinstance(model, dict) else ""


def _condition(row: AnswerRow) -> str:
    return row["intervention"] if row["intervention"] == BASELINE else f"{row['intervention']} {row['source']}"


def _id(row: AnswerRow) -> str:
    """One name for one answer, the same in both files."""
    parts = (row["intervention"], row["source"], row["language"], row["prompts"], row["prompt_set"], row["prompt_id"])
    return "/".join(part or "" for part in parts)


def _line(row: AnswerRow) -> dict[str, JsonValue]:
    """A row as `judge` and `agreement` read it."""
    return {
        "id": _id(row), "lang": row["language"], "condition": _condition(row), "prompts": row["prompts"],
        "prompt_id": row["prompt_id"], "prompt": row["prompt"], "text": row["text"] or "",
        "verdict": row["label"], "uncertain": row["uncertain"], "score": row["score"], "reason": row["reason"],
        "judge": row["judge"], "truncated": row["truncated"], "untouched": row["untouched"],
    }  # fmt: skip


def _page(rows: Sequence[AnswerRow], *, model: str, limit: int | None) -> str:
    """The page with its data in it."""
    places: dict[tuple[str, str, str | None, str], int] = {}
    prompts: list[JsonValue] = []
    conditions: dict[str, int] = {}
    titles: list[JsonValue] = []
    answers: list[JsonValue] = []
    for row in rows:
        asked = (row["language"], row["prompts"], row["prompt_set"], row["prompt_id"])
        if asked not in places:
            places[asked] = len(prompts)
            prompts.append(
                {"text": clean(row["prompt"] or ""), "language": row["language"], "harm": row["prompts"],
                 "id": clean(row["prompt_id"])}
            )  # fmt: skip
        condition = _condition(row)
        if condition not in conditions:
            conditions[condition] = len(titles)
            titles.append({"name": clean(condition), "title": _title(row)})
        answers.append(_answer(row, places[asked], conditions[condition]))
    data: JsonValue = {
        "languages": {code: language_name(code) for code in sorted({row["language"] for row in rows})},
        "conditions": titles,
        "prompts": prompts,
        "answers": answers,
    }
    script, style = asset("answers.js"), asset("answers.css")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("refusal_lens.report", "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("answers.html.j2").render(
        model=model,
        version=version("refusal-lens"),
        limit=limit,
        judges=sorted({clean(row["judge"]) for row in rows if row["judge"]}),
        lacking=sum(row["text"] is None for row in rows),
        script=script,
        style=style,
        script_digest=digest(script),
        style_digest=digest(style),
        data=_embedded(data),
    )


def _title(row: AnswerRow) -> str:
    if row["intervention"] == BASELINE:
        return "untouched"
    return clean(f"{source_name(row['source'])} {declared(row['intervention']).done}")


def _answer(row: AnswerRow, prompt: int, condition: int) -> dict[str, JsonValue]:
    flags = {
        "uncertain": row["uncertain"],
        "in another language": row["off_language"],
        "cut at the limit": row["truncated"],
        "off topic": row["on_topic"] is False,
    }
    return {
        "id": _id(row),
        "prompt": prompt,
        "condition": condition,
        "label": row["label"],
        "untouched": row["untouched"],
        "score": row["score"],
        "reason": clean(row["reason"] or ""),
        "flags": [name for name, present in flags.items() if present],
        "parts": None if row["text"] is None else _parts(row["text"], row["evidence"]),
    }


def _parts(text: str, evidence: str | None) -> list[JsonValue]:
    """The text in pieces: plain ones, and pairs of a piece and the phrase groups that fired there."""
    marks = [(group, start, min(end, len(text))) for group, start, end in spans(evidence) if start < len(text)]
    edges = sorted({0, len(text), *(edge for _, start, end in marks for edge in (start, end))})
    parts: list[JsonValue] = []
    for start, end in pairwise(edges):
        piece = clean(text[start:end])
        groups = sorted({clean(group) for group, first, last in marks if first <= start and end <= last})
        if piece:
            parts.append([piece, ", ".join(groups)] if groups else piece)
    return parts


def _embedded(value: JsonValue) -> str:
    """JSON that is safe inside a script element: no character of it can begin markup or end a line of script."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in ("&", "<", ">", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
