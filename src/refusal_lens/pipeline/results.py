"""A finished (or unfinished) run as tables: what Python users read after an audit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from refusal_lens.core.json_files import read_json
from refusal_lens.errors import RunError
from refusal_lens.rundir import RunDir
from refusal_lens.types import JsonValue


@dataclass(frozen=True)
class Run:
    """A run directory opened for reading."""

    path: Path

    def table(self, name: str) -> pa.Table:
        """One of the final tables.

        Args:
            name: E.g. "rates", "transfer", "candidates", "verdicts".

        Returns:
            The table as pyarrow; `.to_pylist()` or `.to_pandas()` as you like.

        Raises:
            RunError: The run has no such table (yet), or it is damaged.
        """
        file = RunDir.open(self.path).tables_dir / f"{name}.parquet"
        if not file.exists():
            have = ", ".join(sorted(item.stem for item in file.parent.glob("*.parquet"))) or "none"
            raise RunError(
                f"{self.path}: no table {name!r} (tables there: {have}); finish the run with `refusal-lens resume {self.path}`"
            )
        try:
            return pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise RunError(
                f"{file}: damaged ({type(error).__name__}); `refusal-lens resume {self.path}` repairs it"
            ) from None

    @cached_property
    def rates(self) -> pa.Table:
        """Compliance per intervention, source, language and prompt class, with k, n, unscored and a 95 % interval."""
        return self.table("rates")

    @cached_property
    def transfer(self) -> pa.Table:
        """Source x target effects against the target's own baseline."""
        return self.table("transfer")

    @cached_property
    def verdict(self) -> JsonValue:
        """The verdict on universality, with its reasons."""
        file = RunDir.open(self.path).tables_dir / "verdict.json"
        if not file.exists():
            raise RunError(f"{self.path}: no verdict yet; finish the run with `refusal-lens resume {self.path}`")
        return read_json(file, error=RunError, advice=f"`refusal-lens resume {self.path}` repairs it")


def open_run(path: str | Path) -> Run:
    """Open a run directory for reading.

    Args:
        path: The run directory.

    Returns:
        Its tables, read when asked for.

    Raises:
        RunError: Not a run directory.
    """
    RunDir.open(Path(path))
    return Run(Path(path))
