"""The charts of the report: each module turns facts into figures; none reads a file."""

from __future__ import annotations

from refusal_lens.report.charts.content import content_figure
from refusal_lens.report.charts.cosines import cosine_figure, layers_figure
from refusal_lens.report.charts.leak import leak_figure, separation_table
from refusal_lens.report.charts.projection import along_figure, projection_figure
from refusal_lens.report.charts.rates import harmful_figure, harmless_figure, untouched_figure
from refusal_lens.report.charts.selection import selection_figure
from refusal_lens.report.charts.theme import PRINT_WIDTH, vega_config
from refusal_lens.report.charts.transfer import transfer_figure

__all__ = [
    "PRINT_WIDTH",
    "along_figure",
    "content_figure",
    "cosine_figure",
    "harmful_figure",
    "harmless_figure",
    "layers_figure",
    "leak_figure",
    "projection_figure",
    "selection_figure",
    "separation_table",
    "transfer_figure",
    "untouched_figure",
    "vega_config",
]
