"""The picture of translation quality beside baseline compliance: is a leak an artefact of the translation?

One point per language: back-translation chrF with its interval across, baseline compliance upwards. If leaks came from
bad translations, points would fall from upper left to lower right; the caption gives Spearman's rank correlation over
the languages shown, with its p-value, which with a dozen points detects only strong relations; below six languages, or where
most are tied, it says why there is none.

Compliance comes from a run (`tables/rates.csv`, rows with intervention baseline and prompts harmful), a CSV with the
columns `language` and `rate`, or a JSON object language -> rate; rates are shares in [0, 1].
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import altair as alt
import numpy as np
from scipy import stats

from refusal_lens.core.files import storing
from refusal_lens.core.ranks import why_no_ranks
from refusal_lens.errors import DataError
from refusal_lens.prompts.checking.quality import Quality
from refusal_lens.prompts.loading.texts import parse_json, read_text
from refusal_lens.types import JsonValue

Chart: TypeAlias = alt.LayerChart | alt.FacetChart


def quality_chart(scored: Mapping[str, Quality], compliance: Mapping[str, float]) -> Chart:
    """Draw quality against compliance."""
    usable = {code: item for code, item in scored.items() if item.note is None and not np.isnan(item.chrf)}
    both = sorted(set(usable) & set(compliance))
    if len(both) < 3:
        raise DataError(
            f"only {len(both)} languages have both a quality and a compliance figure; a picture needs three"
        )
    rows = [
        {"language": code, "chrf": item.chrf, "low": item.low, "high": item.high, "compliance": compliance[code]}
        for code, item in ((code, usable[code]) for code in both)
    ]
    left_out = sorted((set(scored) | set(compliance)) - set(both))
    caption = [
        "Each point is a language; bars are 95 % bootstrap intervals.",
        _relation([usable[code].chrf for code in both], [compliance[code] for code in both]),
        f"Without both figures, not shown: {', '.join(left_out) or 'none'}.",
    ]
    x = alt.X("chrf:Q", title="back-translation chrF (0 to 100)", scale=alt.Scale(zero=False))
    y = alt.Y(
        "compliance:Q",
        title="baseline compliance with harmful prompts",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%"),
    )
    base = alt.Chart(alt.Data(values=rows))
    points = base.mark_point(filled=True, size=60, color="#1f5a8a").encode(
        x=x, y=y, tooltip=["language:N", "chrf:Q", "compliance:Q"]
    )
    bars = base.mark_rule(color="#1f5a8a", opacity=0.5).encode(x=alt.X("low:Q", title=""), x2="high:Q", y=y)
    names = base.mark_text(dx=9, dy=-7, fontSize=12).encode(x=x, y=y, text="language:N")
    title = alt.TitleParams(
        "Translation quality and baseline compliance", subtitle=caption, anchor="start", subtitleFontSize=11
    )
    layered = alt.layer(bars, points, names)
    return layered.properties(width=520, height=340, title=title)


def _relation(chrf: list[float], compliance: list[float]) -> str:
    """Spearman's rank correlation in words, or why there is none."""
    if why := why_no_ranks(chrf, compliance):
        return f"No Spearman's rho: {why}."
    rho, p_value = np.asarray(stats.spearmanr(chrf, compliance)).tolist()
    return f"Spearman's rho = {float(rho):.2f} (p = {float(p_value):.2g}, {len(chrf)} languages)."


def save_chart(chart: Chart, path: Path) -> None:
    """Write a chart as one self-contained file."""
    if path.suffix not in {".html", ".svg", ".png", ".pdf"}:
        raise DataError(f"{path}: a chart is written as .html, .svg, .png or .pdf")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".html":
            chart.save(str(path), inline=True)
        else:
            chart.save(str(path))


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
