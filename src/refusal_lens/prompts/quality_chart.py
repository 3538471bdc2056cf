"""The picture of translation quality beside baseline compliance: is a leak an artefact of the translation?

One point per language: back-translation chrF with its interval across, baseline compliance upwards. If leaks came from
bad translations, points would fall from upper left to lower right; the caption gives Spearman's rank correlation over
the languages shown, with its p-value, which with a dozen points detects only strong relations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import altair as alt
import numpy as np
from scipy import stats

from refusal_lens.core.files import storing
from refusal_lens.errors import DataError
from refusal_lens.prompts.quality import Quality

Chart: TypeAlias = alt.LayerChart | alt.FacetChart


def quality_chart(scored: Mapping[str, Quality], compliance: Mapping[str, float]) -> Chart:
    """Draw quality against compliance.

    Args:
        scored: Quality by language.
        compliance: Baseline compliance by language, shares in [0, 1].

    Returns:
        The chart; languages that lack either figure are left out and named in the caption.

    Raises:
        DataError: When fewer than three languages have both figures.
    """
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
    rho, p_value = np.asarray(
        stats.spearmanr([usable[code].chrf for code in both], [compliance[code] for code in both])
    ).tolist()
    left_out = sorted((set(scored) | set(compliance)) - set(both))
    caption = [
        "Each point is a language; bars are 95 % bootstrap intervals.",
        f"Spearman's rho = {float(rho):.2f} (p = {float(p_value):.2g}, {len(both)} languages).",
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


def save_chart(chart: Chart, path: Path) -> None:
    """Write a chart as one self-contained file.

    Args:
        chart: The chart.
        path: A .html, .svg, .png or .pdf file.

    Raises:
        DataError: For another ending, or when the file cannot be written.
    """
    if path.suffix not in {".html", ".svg", ".png", ".pdf"}:
        raise DataError(f"{path}: a chart is written as .html, .svg, .png or .pdf")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".html":
            chart.save(str(path), inline=True)
        else:
            chart.save(str(path))
