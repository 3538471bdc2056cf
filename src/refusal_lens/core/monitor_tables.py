"""The tables that `monitor evaluate` writes beside a monitor: its figures, and the curves that they are points of."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from typing_extensions import TypedDict

from refusal_lens.core.columns import High, Language, Low
from refusal_lens.core.table import Table

TestSet: TypeAlias = Annotated[str, "prompt set, e.g. testbed, polyrefuse, xstest"]
Shift: TypeAlias = Annotated[str, "what was done to the prompts; empty for nothing"]
ITSELF = "monitor"


class MonitorRow(TypedDict):
    """One figure of a monitor in one language."""

    language: Language
    prompt_set: TestSet
    shift: Shift
    figure: Annotated[str, "auroc, miss at false alarm 0.001 | 0.01 | 0.05, miss, false alarm"]
    calibration: Annotated[
        str, "card, none, 1 label, 4 labels, 8 labels, traffic; empty where no threshold plays a part"
    ]
    value: Annotated[float | None, "share in [0, 1]"]
    low: Low
    high: High
    k: Annotated[int | None, "prompts counted; null for an AUROC"]
    n: Annotated[int, "of so many; for an AUROC those of the smaller class"]
    null: Annotated[str | None, "the best null: length, words, random direction"]
    null_value: Annotated[float | None, "what it reaches"]
    claim: Annotated[str, "beyond its null, not beyond its null, no null"]


class CurveRow(TypedDict):
    """A corner of a curve of misses against false alarms; between two corners it is straight."""

    language: Language
    prompt_set: TestSet
    shift: Shift
    series: Annotated[str, "monitor, or the null with the best AUROC: length, words, random direction"]
    false_alarm: Annotated[float, "share of the harmless prompts that are flagged"]
    miss: Annotated[float, "share of the harmful prompts that are not flagged, at the same threshold"]


MONITOR = Table("evaluation", MonitorRow)
CURVES = Table("curves", CurveRow)
