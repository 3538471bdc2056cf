"""What the sweep says of one candidate, in the layout of the published score files.

A published row has five fields: position, layer, refusal_score, steering_score, kl_div_score. Ours may leave a score out
(null) when the rule discards the candidate anyway, and then says why in `skipped`; a file without nulls has exactly the
published fields. This module reads and writes the rows; it measures nothing and chooses nothing.

Source: `direction_evaluations.json` of the published procedure (Arditi et al. 2024; Wang et al. 2025).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refusal_lens.core.json_files import read_json
from refusal_lens.errors import DataError
from refusal_lens.types import JsonValue

SCORES = ("refusal_score", "steering_score", "kl_div_score")


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """The three scores of one candidate direction.

    Attributes:
        position: Negative offset from the end of the rendered prompt.
        layer: The residual stream entering this block.
        refusal_score: Mean refusal score (log-odds, nats) of harmful prompts under ablation; None when not measured.
        steering_score: Mean refusal score (log-odds, nats) of harmless prompts under addition; None when not measured.
        kl_div_score: Mean KL divergence (nats) of the next token on harmless prompts under ablation; None when not measured.
        skipped: Why the candidate is out of the question or was not measured in full; None for an ordinary one.
    """

    position: int
    layer: int
    refusal_score: float | None
    steering_score: float | None
    kl_div_score: float | None
    skipped: str | None = None


def published_rows(scores: Sequence[CandidateScore], *, inexact: str | None = None) -> list[dict[str, JsonValue]]:
    """Rows for a score file: the published fields, plus `skipped` only where a score is missing.

    Args:
        scores: Candidates in sweep order.
        inexact: Which checks the model failed; marks every row.

    Returns:
        One JSON object per candidate; a score that is not finite becomes null.
    """
    rows: list[dict[str, JsonValue]] = []
    for item in scores:
        values = {name: _finite(getattr(item, name)) for name in SCORES}
        row: dict[str, JsonValue] = {"position": item.position, "layer": item.layer, **values}
        if item.skipped is not None and None in values.values():
            row["skipped"] = item.skipped
        if inexact is not None:
            row["inexact"] = inexact
        rows.append(row)
    return rows


def read_scores(path: Path) -> list[CandidateScore]:
    """Read a score file, ours or a published one.

    Args:
        path: JSON list of objects with `position`, `layer` and the three scores (a number, NaN or null each).

    Returns:
        Candidates in file order. A NaN stays NaN (measured, worthless), a null becomes None (not measured).

    Raises:
        DataError: When the file is missing, is not such a list, or names a candidate twice.
    """
    rows = read_json(path, advice="`refusal-lens score` writes score files")
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: expected a non-empty JSON list of candidates, found {_kind(rows)}")
    found = [_row(row, f"{path}: entry {index}") for index, row in enumerate(rows)]
    seen: set[tuple[int, int]] = set()
    for item in found:
        if (item.position, item.layer) in seen:
            raise DataError(f"{path}: position {item.position}, layer {item.layer} occurs twice")
        seen.add((item.position, item.layer))
    return found


def _row(row: object, where: str) -> CandidateScore:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with position, layer and scores, found {_kind(row)}")
    position, layer = (_integer(row.get(name), f"{where}: {name}") for name in ("position", "layer"))
    if position >= 0 or layer < 0:
        raise DataError(f"{where}: a position is negative and a layer is not, found position {position}, layer {layer}")
    refusal, steering, kl = (_number(row.get(name), f"{where}: {name}") for name in SCORES)
    skipped = row.get("skipped")
    return CandidateScore(position, layer, refusal, steering, kl, None if skipped is None else str(skipped))


def _integer(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{where}: expected a whole number, found {value!r}")
    return value


def _number(value: object, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: expected a number or null, found {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise DataError(f"{where}: the number is infinite or too large")
    return number


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _kind(value: object) -> str:
    return "an empty list" if value == [] else f"a JSON {type(value).__name__}"
