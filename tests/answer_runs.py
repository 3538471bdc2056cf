"""Makes a run that holds nothing but prompts, answers and verdicts: what `view` and `run.answers()` read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.core.tables import VERDICTS
from refusal_lens.rundir import RunDir, write_plan
from refusal_lens.types import Task


class Said(NamedTuple):
    """One answer: its prompt, text, label, and what the judge marked."""

    prompt_id: str
    text: str
    label: str
    uncertain: bool = False
    evidence: Sequence[tuple[str, int, int]] = ()


Cells = Mapping[tuple[str, str, str], Sequence[Said]]
"""Answers by intervention, source and language, all to harmful prompts."""


def make_answers(root: Path, cells: Cells, *, prompts: Mapping[str, str]) -> RunDir:
    """A run with a task of answers and one of verdicts a cell, and the prompts' text by id."""
    run = RunDir.create(root, header={"config": {"model": {"spec": "<b>model</b>"}}})
    languages = dict.fromkeys(language for _, _, language in cells)
    asked = {language: Task("prompts", 1, f"{language}.test") for language in languages}
    tasks = list(asked.values())
    for intervention, source, language in cells:
        name = ".".join(part for part in (intervention, source, language, "harmful.0") if part)
        part = asked[language].task_id
        shard = Task("completions", 4, name, {}, (part,))
        tasks += [shard, Task("verdicts", 6, name, {}, (shard.task_id, part))]
    write_plan(run, tasks)
    for language, task in asked.items():
        rows = [
            {"prompt_id": name, "language": language, "harm": "harmful", "text": text} for name, text in prompts.items()
        ]
        _write(run, task, "prompts", rows)
    written = iter(tasks[len(asked) :])
    for (intervention, source, language), answers in cells.items():
        texts = [{"source": source, "prompt_id": said.prompt_id, "text": said.text, "n_tokens": 3} for said in answers]
        _write(run, next(written), "completions", texts)
        found: list[dict[str, object]] = [
            {
                **dict.fromkeys(VERDICTS.columns),
                "intervention": intervention,
                "source": source,
                "language": language,
                "prompts": "harmful",
                "prompt_id": said.prompt_id,
                "label": said.label,
                "uncertain": said.uncertain,
                "judge": "native-3",
                "evidence": json.dumps(said.evidence),
                "prompt_set": "own",
            }
            for said in answers
        ]
        _write(run, next(written), "verdicts", found)
    return run


def _write(run: RunDir, task: Task, name: str, rows: list[dict[str, object]]) -> None:
    with run.writing(task) as folder:
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
