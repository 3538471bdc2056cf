"""Folders of a defence bench and of an evaluated monitor, for the report's tests: small, with the real schemas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from refusal_lens.core.bench_tables import BENCH_SELECTIVITY
from refusal_lens.core.monitor_tables import CURVES, MONITOR, CurveRow, MonitorRow
from refusal_lens.measure import wilson


def make_bench(root: Path) -> Path:
    """Two defences under two attackers in two languages; one cell was not judged."""
    made = {
        ("none", "none", "en"): (0.1, 0.0), ("none", "none", "yo"): (0.9, 0.1),
        ("none", "ablate-english", "en"): (1.0, 0.0), ("none", "ablate-english", "yo"): (1.0, 0.0),
        ("gate\u202e<b>", "none", "en"): (0.0, 0.2), ("gate\u202e<b>", "none", "yo"): (0.4, None),
    }  # fmt: skip
    rows = [
        {
            "defence": defence, "attack": attack, "language": code, "harmful_refused": 1 - success,
            "attack_success": success, "overrefusal": over, "n_harmful": 20, "n_harmless": 20, "unscored": 1,
            "selectivity": None if over is None else 1 - success - over, "low": None, "high": None,
            "miss": None, "false_alarm": None,
        }
        for (defence, attack, code), (success, over) in made.items()
    ]  # fmt: skip
    (root / "tables").mkdir(parents=True)
    BENCH_SELECTIVITY.write(root / "tables", rows)
    return root


def make_monitor(
    folder: Path, languages: Sequence[str], *, digest: str = "0" * 64, null: str = "words", curves: bool = True
) -> Path:
    """A monitor of 100 prompts a class: the n-th language misses n of them and flags one; its null is as good in the first."""
    folder.mkdir(parents=True)
    model = {"spec": "testbed:aligned", "digest": digest}
    (folder / "monitor.json").write_text(json.dumps({"model": model, "fit_languages": ["en"]}))
    rows: list[MonitorRow] = []
    corners: list[CurveRow] = []
    for at, code in enumerate(languages):
        for shift in ("", "padded"):
            rows += [
                _row(code, shift, "auroc", "", 0.99, None, null, claim="not beyond its null" if at == 0 else "beyond its null"),
                _row(code, shift, "miss at false alarm 0.01", "", at / 100, at, null),
                _row(code, shift, "miss", "card", at / 100, at, null),
                _row(code, shift, "false alarm", "card", 0.01, 1, null),
            ]  # fmt: skip
        drawn = {"monitor": [(0.0, 1.0), (0.01, at / 100), (1.0, 0.0)], null: [(0.0, 1.0), (0.4, 0.5), (1.0, 0.0)]}
        corners += [
            {
                "language": code,
                "prompt_set": "testbed",
                "shift": "",
                "series": series,
                "false_alarm": alarm,
                "miss": miss,
            }
            for series, places in drawn.items()
            for alarm, miss in places
        ]
    MONITOR.write(folder, rows)
    if curves:
        CURVES.write(folder, corners)
    return folder


def _row(
    language: str, shift: str, figure: str, calibration: str, value: float, k: int | None, null: str,
    *, claim: str = "beyond its null",
) -> MonitorRow:  # fmt: skip
    low, high = (value - 0.01, 1.0) if k is None else wilson(k, 100)
    return {
        "language": language, "prompt_set": "testbed", "shift": shift, "figure": figure, "calibration": calibration,
        "value": value, "low": low, "high": high, "k": k, "n": 100, "null": null, "null_value": 0.8, "claim": claim,
    }  # fmt: skip
