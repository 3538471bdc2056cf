"""The report of a run: one self-contained HTML page, its figures as files, and the headline table.

Reads a run directory, never a model.
"""

from __future__ import annotations

from pathlib import Path

from refusal_lens.report.facts import Facts, HeadlineRow
from refusal_lens.report.inputs import read_inputs
from refusal_lens.report.page import build_report, is_current
from refusal_lens.report.shares import NullShare, Share
from refusal_lens.report.words import Statement, headline, verdict_of


def headline_table(run_dir: Path) -> tuple[HeadlineRow, ...]:
    """The headline table as plain rows, one per target language.

    Args:
        run_dir: The run, finished or not.

    Returns:
        Rows by resource tier, then name; a cell the run does not have is None.

    Raises:
        RunError: There is no run in the folder.
    """
    return Facts(read_inputs(run_dir)).headline


__all__ = [
    "Facts",
    "HeadlineRow",
    "NullShare",
    "Share",
    "Statement",
    "build_report",
    "headline",
    "headline_table",
    "is_current",
    "read_inputs",
    "verdict_of",
]
