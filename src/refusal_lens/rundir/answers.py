"""The answers of a run, each with its prompt and its verdict: read through the task records, nothing is computed.

An answer and its verdict stand in two tasks of one name; a verdict's task also names the prompts it read. Text that was
scrubbed is null, the verdict stays.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.core.digests import digest_file
from refusal_lens.core.names import BASELINE
from refusal_lens.core.table import Table
from refusal_lens.core.tables import VERDICTS, VerdictRow
from refusal_lens.errors import RunError, UserError
from refusal_lens.rundir.planned import read_plan
from refusal_lens.rundir.run import RunDir
from refusal_lens.types import JsonValue, Task


class AnswerRow(VerdictRow):
    """A verdict with the prompt and the answer it is about.

    Attributes:
        prompt: The prompt as the model was asked it.
        text: What it wrote, thoughts included; null where the text was scrubbed.
        n_tokens: Length of the answer; null where the text was scrubbed.
        untouched: The untouched model's label on the same prompt; null for the untouched model itself.
    """

    prompt: str | None
    text: str | None
    n_tokens: int | None
    untouched: str | None


ANSWERS = Table("answers", AnswerRow, final=False)
_Shard = Mapping[tuple[str, str], Mapping[str, object]]


def read_answers(run: RunDir, *, languages: Collection[str] = (), limit: int | None = None) -> list[AnswerRow]:
    """Every judged answer of a run, finished or not: the untouched model's first, then one direction after the other.

    Args:
        run: The run.
        languages: Only answers to prompts in these; empty for all.
        limit: At most so many answers of each condition, language, class and prompt set, the same prompts everywhere.

    Returns:
        A row an answer.

    Raises:
        UserError: A language that the run has no answers in.
        RunError: Nothing is judged yet, or a file is damaged.
    """
    shards: list[list[VerdictRow]] = []
    texts: dict[tuple[object, ...], Mapping[str, object]] = {}
    prompts: dict[tuple[object, ...], str] = {}
    known: set[str] = set()
    kept: Counter[tuple[object, ...]] = Counter()
    for task in read_plan(run):
        record = run.record(task.task_id) if task.step == "verdicts" else None
        if record is None or record.key != run.key(task):
            continue
        rows = VERDICTS.read(_sound(run, task.task_id, "verdicts.parquet"))
        known |= {row["language"] for row in rows}
        if languages:
            rows = [row for row in rows if row["language"] in languages]
        rows = [row for row in rows if _within(kept, _cell(row), limit)]
        if not rows:
            continue
        said, asked = _texts(run, task), _prompts(run, task)
        for row in rows:
            name = row["prompt_id"]
            if (row["source"], name) in said:
                texts[*_cell(row), name] = said[row["source"], name]
            prompts[*_asked(row), name] = asked.get((row["prompts"], name), "")
        shards.append(rows)
    if unknown := sorted(set(languages) - known):
        raise UserError(
            f"{run.root}: no answers in {', '.join(unknown)}; the run has {', '.join(sorted(known)) or 'none'}"
        )
    if not shards:
        raise RunError(f"{run.root}: no judged answers yet; `refusal-lens resume {run.root}` finishes the run")
    return list(_joined(_in_order(shards), prompts, texts))


def answer_table(rows: Sequence[AnswerRow]) -> pa.Table:
    """The answers as a table, its columns in a fixed order also where there are no rows."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=ANSWERS.schema)


def spans(evidence: str | None) -> list[tuple[str, int, int]]:
    """The phrase groups of a verdict's evidence with their places; none where it is absent or cannot be read.

    Args:
        evidence: The column of a verdict: JSON.

    Returns:
        Group, start and end of each, in order of place.
    """
    try:
        found: JsonValue = json.loads(evidence or "[]")
    except (ValueError, RecursionError):
        return []
    made: list[tuple[str, int, int]] = []
    for item in found if isinstance(found, list) else []:
        if isinstance(item, list) and len(item) == 3:
            group, start, end = item
            if type(start) is int and type(end) is int and 0 <= start < end:
                made.append((str(group), start, end))
    return sorted(made, key=lambda span: span[1:])


def _joined(
    rows: Sequence[VerdictRow],
    prompts: Mapping[tuple[object, ...], str],
    texts: Mapping[tuple[object, ...], Mapping[str, object]],
) -> Iterator[AnswerRow]:
    labels = {(*_asked(row), row["prompt_id"]): row["label"] for row in rows if row["intervention"] == BASELINE}
    for row in rows:
        place = (*_asked(row), row["prompt_id"])
        said = texts.get((*_cell(row), row["prompt_id"]), {})
        text, tokens = said.get("text"), said.get("n_tokens")
        yield {
            **row,
            "prompt": prompts.get(place),
            "text": text if isinstance(text, str) else None,
            "n_tokens": tokens if isinstance(tokens, int) else None,
            "untouched": None if row["intervention"] == BASELINE else labels.get(place),
        }


def _in_order(shards: Sequence[list[VerdictRow]]) -> list[VerdictRow]:
    """One direction after the other, all its languages together."""
    together: dict[tuple[object, ...], list[VerdictRow]] = {}
    for row in (row for shard in shards for row in shard):
        together.setdefault((row["prompt_set"], row["intervention"], row["source"]), []).append(row)
    return [row for rows in together.values() for row in rows]


def _asked(row: VerdictRow) -> tuple[object, ...]:
    return row["language"], row["prompts"], row["prompt_set"]


def _cell(row: VerdictRow) -> tuple[object, ...]:
    return row["intervention"], row["source"], *_asked(row)


def _within(kept: Counter[tuple[object, ...]], cell: tuple[object, ...], limit: int | None) -> bool:
    kept[cell] += 1
    return limit is None or kept[cell] <= limit


def _texts(run: RunDir, task: Task) -> _Shard:
    """The answers of a shard by source and prompt; none where their text was scrubbed."""
    (shard,) = (name for name in task.inputs if name.startswith("completions/"))
    record = run.record(shard)
    if record is None or "completions.parquet" in record.scrubbed:
        return {}
    rows = _rows(_sound(run, shard, "completions.parquet"))
    return {(str(row["source"]), str(row["prompt_id"])): row for row in rows}


def _prompts(run: RunDir, task: Task) -> dict[tuple[str, str], str]:
    (part,) = (name for name in task.inputs if name.startswith("prompts/"))
    rows = _rows(_sound(run, part, "prompts.parquet"))
    return {(str(row["harm"]), str(row["prompt_id"])): str(row["text"]) for row in rows}


def _rows(path: Path) -> list[dict[str, object]]:
    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path}: not a readable table ({type(error).__name__})") from None


def _sound(run: RunDir, task_id: str, name: str) -> Path:
    """An output file whose digest is the recorded one: a stranger's edit must not pass for the run's answer."""
    path, record = run.path(task_id, name), run.record(task_id)
    if record is None or digest_file(path) != record.outputs[name]:
        raise RunError(f"{path}: does not have its recorded digest; `refusal-lens resume {run.root}` repairs it")
    return path
