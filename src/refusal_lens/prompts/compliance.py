"""Baseline compliance per language, from a run's tables or from a small file, to set beside translation quality.

Read: a run directory (`tables/rates.csv`, rows with intervention baseline and prompts harmful), a CSV with the columns
`language` and `rate`, or a JSON object language -> rate. Rates are shares in [0, 1].
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from refusal_lens.errors import DataError
from refusal_lens.prompts.reading import parse_json, read_text
from refusal_lens.types import JsonValue


def read_compliance(path: Path) -> dict[str, float]:
    """Read baseline compliance.

    Args:
        path: A run directory, a CSV or a JSON file.

    Returns:
        Language code -> share in [0, 1].

    Raises:
        DataError: When the file has another shape or a rate is no share.
    """
    file = path / "tables" / "rates.csv" if path.is_dir() else path
    text = read_text(file)
    found = _from_json(parse_json(text, str(file)), file) if text.lstrip().startswith("{") else _from_csv(text, file)
    if not found:
        raise DataError(
            f"{file}: no baseline compliance in it; give a run, a CSV with language and rate, or a JSON object"
        )
    return found


def _from_json(value: JsonValue, file: Path) -> dict[str, float]:
    assert isinstance(value, dict)
    return {language: _share(rate, f"{file}, {language!a}") for language, rate in value.items()}


def _from_csv(text: str, file: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
            if row.get("language") is None or "rate" not in row:
                raise DataError(f"{file}: needs the columns language and rate")
            of_baseline = (
                row.get("intervention", "baseline") == "baseline" and row.get("prompts", "harmful") == "harmful"
            )
            if of_baseline and row["rate"]:
                found[row["language"]] = _share(row["rate"], f"{file}, line {number}")
    except csv.Error as error:
        raise DataError(f"{file}: no readable CSV ({error})") from None
    return found


def _share(value: JsonValue, where: str) -> float:
    try:
        rate = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        rate = math.nan
    if not 0.0 <= rate <= 1.0:
        raise DataError(f"{where}: a rate must be a number from 0 to 1")
    return rate
