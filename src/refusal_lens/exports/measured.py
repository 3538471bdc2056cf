"""What an export says of a run: the rows of `rates` as they stand, and the facts that every format names alike.

Nothing is computed or rounded here: a number that leaves the house is the table's number, and a cell without a rate is
counted, never filled. Folders are given by their last name alone.
"""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePath

from refusal_lens.core.names import BASELINE
from refusal_lens.core.tables import RATES, RateRow
from refusal_lens.errors import RunError
from refusal_lens.report.facts import Facts
from refusal_lens.report.inputs import read_inputs
from refusal_lens.rundir import RunDir

LIBRARY = "refusal-lens"


@dataclass(frozen=True)
class Measured:
    """A run to export.

    Attributes:
        facts: Its numbers.
        rows: Every row of `rates` that has a rate.
        unmeasured: How many rows have none: nothing could be judged there.
        finished: When the rates were computed, ISO 8601; None where the run does not say.
    """

    facts: Facts
    rows: tuple[RateRow, ...]
    unmeasured: int
    finished: str | None

    @property
    def version(self) -> str:
        """Version of this tool as the run recorded it, else of the one that exports."""
        recorded = self.facts.inputs.header.get("versions")
        found = recorded.get(LIBRARY) if isinstance(recorded, dict) else None
        return found if isinstance(found, str) else version(LIBRARY)

    @property
    def max_new_tokens(self) -> int | None:
        """Length limit of an answer in tokens; None where the run does not say."""
        found = self.facts.setting("generation", "max_new_tokens")
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def command(self) -> str | None:
        """The command line without folders; None where the run does not have it."""
        given = self.facts.inputs.header.get("command")
        return without_folders(given) if isinstance(given, str) and given else None

    def untouched(self) -> list[RateRow]:
        """The untouched model on the main prompt set, in the page's order."""
        place = {code: index for index, code in enumerate(self.facts.languages)}
        rows = [row for row in self.facts.of_main(self.rows) if row["intervention"] == BASELINE]
        return sorted(rows, key=lambda row: (place.get(row["language"], len(place)), row["prompts"]))


def measured(run_dir: Path) -> Measured:
    """Read a run for an export.

    Args:
        run_dir: A run, finished or not.

    Returns:
        Its numbers.

    Raises:
        RunError: There is no run in the folder, or it has no rates yet.
    """
    run = RunDir.open(run_dir)
    facts = Facts(read_inputs(run_dir))
    rows = facts.inputs.rows(RATES)
    if not rows:
        raise RunError(f"{run_dir}: no rates to export yet; `refusal-lens resume {run_dir}` finishes the run")
    known = tuple(row for row in rows if row["rate"] is not None)
    record = run.record("rates/all")
    return Measured(facts, known, len(rows) - len(known), None if record is None else record.finished_at)


def name_of(row: RateRow) -> str:
    """One name for a cell: `harmful.yo`, `harmful.yo.ablation.en`, with the prompt set before it where that is known."""
    parts = [row["prompt_set"] or "", row["prompts"], row["language"]]
    if row["intervention"] != BASELINE:
        parts += [row["intervention"], row["source"]]
    return ".".join(part for part in parts if part)


def now() -> datetime:
    """The time of the export; SOURCE_DATE_EPOCH fixes it where the same bytes are wanted twice."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(given) if given.isdecimal() else int(time.time()), UTC)


def without_folders(command: str) -> str:
    """A command line whose paths are reduced to their last name: where things lie on a machine is nobody's business."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return shlex.join([_base(word) for word in words])


def _base(word: str) -> str:
    option, mark, value = word.partition("=") if word.startswith("--") else ("", "", word)
    is_path = value.startswith(("/", "./", "../", "~", ".venv")) or (value.count("/") > 1 and "://" not in value)
    return f"{option}{mark}{PurePath(value).name}" if is_path else word
