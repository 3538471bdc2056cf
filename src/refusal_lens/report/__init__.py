"""The report of a run: one self-contained HTML page, its figures as files, and what an audit prints at its end.

Reads a run directory, never a model. What draws is imported when first used: the chart libraries take a second to load, and
the rest of this room needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from refusal_lens.report.answers import View, build_view
from refusal_lens.report.facts import Facts, HeadlineRow
from refusal_lens.report.inputs import is_current, read_inputs
from refusal_lens.report.shares import NullShare, Share
from refusal_lens.report.words import Statement, headline, verdict_of

if TYPE_CHECKING:
    from refusal_lens.report.notebook import run_chart, run_html
    from refusal_lens.report.page import (
        build_comparison,
        build_figure1,
        build_figure2,
        build_report,
        save_run_figures,
    )

_HOMES = {
    "build_comparison": "page",
    "build_figure1": "page",
    "build_figure2": "page",
    "build_report": "page",
    "save_run_figures": "page",
    "run_chart": "notebook",
    "run_html": "notebook",
}

__all__ = [
    "Facts",
    "HeadlineRow",
    "NullShare",
    "Share",
    "Statement",
    "View",
    "build_comparison",
    "build_figure1",
    "build_figure2",
    "build_report",
    "build_view",
    "headline",
    "is_current",
    "read_inputs",
    "run_chart",
    "run_html",
    "save_run_figures",
    "verdict_of",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
