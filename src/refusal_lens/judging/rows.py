"""Files of answers: read, check every row before anything is judged, write verdicts beside the rows' own fields.

One JSON object a line with at least `text` and `lang`; `prompt`, `id`, `finished` or `truncated`, `reasoning` (a model's
thoughts that came apart from its text) are understood, anything else is carried through. A bad row (not JSON, no text, unknown
language) is named by its line number. Blank lines are no rows. Files are written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from refusal_lens.core.files import write_atomic
from refusal_lens.errors import DataError, UserError
from refusal_lens.judging.answer import Answer
from refusal_lens.languages import load_languages
from refusal_lens.types import Verdict


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an answer file.

    Attributes:
        line: Its number, from 1.
        fields: Its fields as read; a line that is no JSON object has its text under "raw".
        answer: What a judge reads, None for a bad row.
        fault: Why the row is bad, None for a good one.
    """

    line: int
    fields: dict[str, object]
    answer: Answer | None
    fault: str | None


def read_lines(path: Path) -> list[tuple[int, bytes]]:
    """The non-blank lines of a file with their numbers.

    Args:
        path: The file.

    Returns:
        Line numbers, from 1, and contents.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_rows(path: Path) -> list[Row]:
    """Read a file of answers; bad rows are returned with their fault, not raised.

    Args:
        path: JSONL file.

    Returns:
        All rows in order.

    Raises:
        UserError: The file cannot be read.
    """
    return [_row(number, line) for number, line in read_lines(path)]


def parse_object(line: bytes) -> dict[str, object]:
    """One JSON object of a line.

    Args:
        line: The line's bytes.

    Returns:
        The object.

    Raises:
        DataError: The line is no JSON object; the message says what it is.
    """
    try:
        value = cast("object", json.loads(line.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"not a JSON object but {type(value).__name__}")
    return cast("dict[str, object]", value)


def require_good(rows: Sequence[Row], *, path: Path) -> None:
    """Stop at the first bad row.

    Args:
        rows: Rows of one file.
        path: The file, for the message.

    Raises:
        DataError: A row is bad; the message names line and reason.
    """
    bad = [row for row in rows if row.fault is not None]
    if bad:
        more = f" ({len(bad)} bad rows in all)" if len(bad) > 1 else ""
        raise DataError(
            f"{path}, line {bad[0].line}: {bad[0].fault}{more}; mend the file or mark such rows unscored with --keep-going"
        )


def bad_row_verdict(row: Row, *, judge: str) -> Verdict:
    """The verdict of a row that could not be read: unscored, with the fault as its reason."""
    return Verdict("unscored", None, uncertain=False, reason=f"bad row: {row.fault}", judge=judge, reading="invalid")


def verdict_fields(verdict: Verdict) -> dict[str, object]:
    """A verdict as the fields added to a row; `panel`, every judge's verdict, only where several judged."""
    panel = [
        {
            "judge": each.judge,
            "verdict": each.label,
            "score": each.score,
            "uncertain": each.uncertain,
            "reason": each.reason,
            "reading": each.reading,
        }
        for each in verdict.panel
    ]
    return {
        "verdict": verdict.label,
        "score": verdict.score,
        "uncertain": verdict.uncertain,
        "reason": verdict.reason,
        "judge": verdict.judge,
        "answer_language": verdict.language,
        "off_language": verdict.off_language,
        "reading": verdict.reading,
        "evidence": [[evidence.group, evidence.start, evidence.end] for evidence in verdict.evidence],
        **({"panel": panel} if panel else {}),
    }


def write_jsonl(path: Path, objects: Iterable[dict[str, object]]) -> None:
    """Write a JSONL file whole or not at all, readable by its owner alone: it holds model answers.

    Args:
        path: Where to.
        objects: One object a line.

    Raises:
        StorageError: The file cannot be written.
    """
    write_atomic(path, b"".join(_encoded(value) + b"\n" for value in objects))


def _encoded(value: dict[str, object]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value).encode("ascii")  # half a surrogate pair can only be written escaped


def _row(number: int, line: bytes) -> Row:
    try:
        fields = parse_object(line)
    except DataError as error:
        return Row(number, {"raw": line.decode("utf-8", errors="replace")}, None, str(error))
    fault = _fault(fields)
    return Row(number, fields, None if fault else _answer(fields), fault)


def _fault(fields: dict[str, object]) -> str | None:
    text, language = fields.get("text"), fields.get("lang", fields.get("language"))
    reasoning = fields.get("reasoning")
    if reasoning is not None and not isinstance(reasoning, str):
        return f"'reasoning' must be text or null, found {type(reasoning).__name__}"
    # A served model that was cut in its thoughts gives no text at all.
    if not isinstance(text, str) and not (text is None and "text" in fields and reasoning is not None):
        return "no text: field 'text' is missing" if text is None else f"no text: 'text' is {type(text).__name__}"
    if language is None:
        return "unknown language: field 'lang' is missing"
    if not isinstance(language, str) or _code(language) not in load_languages():
        return f"unknown language {language!r}; known: {', '.join(load_languages())}"
    prompt = fields.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        return f"'prompt' must be text, found {type(prompt).__name__}"
    return None


def _answer(fields: dict[str, object]) -> Answer:
    finished = fields.get("finished")
    done = finished if isinstance(finished, bool) else fields.get("truncated") is not True
    return Answer(
        text=cast("str | None", fields["text"]) or "",
        language=_code(cast("str", fields.get("lang", fields.get("language")))),
        prompt=cast("str | None", fields.get("prompt")),
        finished=done,
        reasoning=cast("str | None", fields.get("reasoning")),
    )


def _code(language: str) -> str:
    return language.strip().lower().replace("_", "-").split("-")[0]
