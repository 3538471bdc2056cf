"""What the numbers of `bench.gpu` mean for an audit, and their table."""

from __future__ import annotations

import json
from collections.abc import Sequence

LANGUAGES, ROW_PROMPTS, ANSWER_TOKENS, DIRECTIONS = 14, 572, 512, 14


def projection(rows: Sequence[dict[str, object]]) -> dict[str, object]:
    """Minutes of a row of Figure 1 and of the 14 x 15 matrix (baseline and 14 ablations in every language), by engine.

    At the rate of the largest batch that was measured, every answer 512 tokens long.
    """
    one = LANGUAGES * ROW_PROMPTS * ANSWER_TOKENS
    found: dict[str, object] = {
        "is": f"{LANGUAGES} languages x {ROW_PROMPTS} prompts, {ANSWER_TOKENS} tokens an answer, no answer ends early; minutes"
    }
    for engine in dict.fromkeys(str(row["engine"]) for row in rows):
        best: dict[str, float] = {}
        for row in rows:
            if row["engine"] == engine:
                best[str(row["mode"])] = float(str(row["tokens_per_s"]))
        plain, folded = best["plain"], best.get("folded", best["plain"])
        mixed = best.get("mixed directions", best["plain"])
        found[engine] = {
            "figure1_row": round(one / plain / 60 + one / folded / 60, 2),
            "matrix_14x15": round(one / plain / 60 + DIRECTIONS * one / mixed / 60, 2),
        }
    largest = max((row for row in rows if row["engine"] == "hf"), key=lambda row: int(str(row["batch"])))
    rate = int(str(largest["batch"])) / float(str(largest["floor_ms"])) * 1e3
    found["floor"] = {
        "figure1_row": round(2 * one / rate / 60, 2),
        "matrix_14x15": round((1 + DIRECTIONS) * one / rate / 60, 2),
    }
    return found


def table(found: dict[str, object]) -> str:
    """The measurements as Markdown."""
    lines = [f"Device: {json.dumps(found.get('device'))}", ""]
    names = ("engine", "mode", "batch", "tokens_per_s", "step_ms", "floor_ms")
    rows = found.get("generation", [])
    assert isinstance(rows, list)
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]
    for part in ("sweep", "extraction", "projection", "failed"):
        values = found.get(part)
        if isinstance(values, dict):
            lines += ["", f"| {part} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in values.items())]
    return "\n".join(lines) + "\n"
