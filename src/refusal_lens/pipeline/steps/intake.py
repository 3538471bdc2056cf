"""Step `prompts`: copy the prompts of one part into the run, so that later steps and readers need no other source."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import get_args

from refusal_lens.errors import DataError
from refusal_lens.pipeline.dataset import digest_of
from refusal_lens.pipeline.tabular import TEXT, read_rows, schema, write_table
from refusal_lens.pipeline.workshop import Job
from refusal_lens.types import Harm, Prompt, Split

FILE = "prompts.parquet"
COLUMNS = schema(
    **dict.fromkeys(
        ("prompt_id", "language", "harm", "split", "text", "prompt_set", "english", "topic", "category"), TEXT
    )
)


def prompts(job: Job) -> None:
    """Write the part's prompts; its digest must be the planned one."""
    part = job.shop.dataset.parts[job.task.name]
    if digest_of(part) != job.task.params["digest"]:
        raise DataError(f"the prompts of {job.task.name} changed while the run was planned: start it again")
    write_table(job.folder, "prompts", [asdict(prompt) for prompt in part], COLUMNS)


def read_prompts(path: Path, *, harm: Harm | None = None, split: Split | None = None) -> list[Prompt]:
    """The prompts of a part, in order.

    Args:
        path: The part's `prompts.parquet`.
        harm: Keep only this class.
        split: Keep only this split.

    Returns:
        Prompts as they were loaded.
    """
    found = [Prompt(**row) for row in read_rows(path)]  # pyright: ignore[reportArgumentType]
    assert all(prompt.harm in get_args(Harm) for prompt in found)
    return [
        prompt for prompt in found if (harm is None or prompt.harm == harm) and (split is None or prompt.split == split)
    ]
