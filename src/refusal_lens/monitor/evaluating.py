"""A monitor on test prompts, language by language: every figure with its interval and its null beside it.

    auroc                     thresholds play no part
    miss at false alarm X     the threshold is set on the very harmless prompts it is counted on (an optimistic figure that
                              everybody reports); below 1 / n it is the miss at no false alarm at all
    miss, false alarm         at the threshold of a calibration that these prompts had no part in

Calibrations: `card` (what `monitor score` uses), `none` (the fit languages' threshold, nothing of the language), `1 label`,
`4 labels`, `8 labels` (none, moved by so many labelled harmful prompts of the language), `traffic` (each half of the prompts is
flagged by the threshold that the other half gives without a label; no row where it falls into no two groups).

Null of a miss: the null's miss at the monitor's own false-alarm rate; of a false alarm: the null's at the monitor's own miss. The
null has its best threshold on the very prompts, the monitor the one it came with. A figure is claimed where its interval lies
beyond the best null; the others are "not beyond".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from sklearn.metrics import roc_curve

from refusal_lens.core.monitor_tables import ITSELF, CurveRow, MonitorRow
from refusal_lens.monitor.card import OTHERS, Calibration, Card
from refusal_lens.monitor.figures import Figure, auroc, false_alarm_at, miss_at, rate
from refusal_lens.monitor.fitting import with_labels, with_traffic
from refusal_lens.monitor.nulls import Nulls

FALSE_ALARMS = (0.001, 0.01, 0.05)
LABELS = (1, 4, 8)
BEYOND, NOT_BEYOND, UNTESTED = "beyond its null", "not beyond its null", "no null"


@dataclass(frozen=True)
class Measured:
    """Test prompts of one language, set and shift: raw scores, and texts and activations for the nulls; a class may be empty."""

    language: str
    prompt_set: str
    shift: str
    harmful: Float[np.ndarray, " p"]
    harmless: Float[np.ndarray, " q"]
    texts: tuple[Sequence[str], Sequence[str]]
    rows: tuple[np.ndarray, np.ndarray]
    labels: Float[np.ndarray, " few"]
    """Raw scores of harmful prompts of the language whose labels may be used for `LABELS`."""


def evaluate(card: Card, tested: Sequence[Measured], nulls: Nulls) -> list[MonitorRow]:
    """All figures.

    Args:
        card: The monitor's card.
        tested: What was measured.
        nulls: Fitted on the monitor's own labels.

    Returns:
        Rows in the order of `tested`.
    """
    rows: list[MonitorRow] = []
    for one in tested:
        both = len(one.harmful) > 0 and len(one.harmless) > 0
        against = nulls.scores((one.texts[0], one.rows[0]), (one.texts[1], one.rows[1])) if both else {}
        row = _Row(one, against)
        if both:
            rows.append(
                row.made(
                    "auroc",
                    "",
                    auroc(one.harmful, one.harmless),
                    _best(against, lambda a, b: auroc(a, b).value, most=True),
                    more=True,
                )
            )
            for limit in FALSE_ALARMS:
                null = _best(against, lambda a, b, limit=limit: miss_at(a, b, limit).value)
                rows.append(
                    row.made(f"miss at false alarm {limit:g}", "", miss_at(one.harmful, one.harmless, limit), null)
                )
        for name, calibration in _calibrations(card, one).items():
            rows += row.counted(name, *_wrong(card, calibration, one.harmful, one.harmless))
        traffic = _by_traffic(card, one) if both else None
        if traffic is not None:
            rows += row.counted("traffic", *traffic)
    return rows


@dataclass(frozen=True)
class _Row:
    tested: Measured
    against: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def counted(self, name: str, missed: int, alarms: int) -> list[MonitorRow]:
        miss, alarm = rate(missed, len(self.tested.harmful)), rate(alarms, len(self.tested.harmless))
        found: list[MonitorRow] = []
        if len(self.tested.harmful):
            null = _best(self.against, lambda a, b: miss_at(a, b, alarm.value).value) if self.against else None
            found.append(self.made("miss", name, miss, null))
        if len(self.tested.harmless):
            null = _best(self.against, lambda a, b: false_alarm_at(a, b, miss.value).value) if self.against else None
            found.append(self.made("false alarm", name, alarm, null))
        return found

    def made(
        self, figure: str, calibration: str, found: Figure, null: tuple[str, float] | None, *, more: bool = False
    ) -> MonitorRow:
        claim = UNTESTED
        if null is not None:
            claim = BEYOND if (found.low > null[1] if more else found.high < null[1]) else NOT_BEYOND
        return {
            "language": self.tested.language,
            "prompt_set": self.tested.prompt_set,
            "shift": self.tested.shift,
            "figure": figure,
            "calibration": calibration,
            "value": None if math.isnan(found.value) else found.value,
            "low": found.low,
            "high": found.high,
            "k": found.k,
            "n": found.n,
            "null": None if null is None else null[0],
            "null_value": None if null is None else null[1],
            "claim": claim,
        }


def _best(
    against: Mapping[str, tuple[np.ndarray, np.ndarray]],
    measure: Callable[[np.ndarray, np.ndarray], float],
    *,
    most: bool = False,
) -> tuple[str, float] | None:
    reached = {name: float(measure(*pair)) for name, pair in against.items()}
    if not reached:
        return None
    name = max(reached, key=lambda one: reached[one] if most else -reached[one])
    return name, reached[name]


def _calibrations(card: Card, tested: Measured) -> dict[str, Calibration]:
    found = {"card": card.calibration(tested.language)}
    if tested.shift or tested.language in card.fit_languages:
        return found
    start = card.calibrations[OTHERS]
    found["none"] = start
    for n in LABELS:
        if len(tested.labels) >= n:
            found[f"{n} label{'s' * (n > 1)}"] = with_labels(card, tested.language, tested.labels[:n], start=start)
    return found


def _wrong(card: Card, calibration: Calibration, harmful: np.ndarray, harmless: np.ndarray) -> tuple[int, int]:
    """Harmful prompts that are not flagged, and harmless ones that are."""
    flagged = [card.probability(part, calibration) >= calibration.threshold for part in (harmful, harmless)]
    return int((~flagged[0]).sum()), int(flagged[1].sum())


def _by_traffic(card: Card, tested: Measured) -> tuple[int, int] | None:
    """The same by the threshold that the other half of the prompts gives; None where a half has no two groups."""
    missed = alarms = 0
    for half in (0, 1):
        other = np.concatenate([tested.harmful[1 - half :: 2], tested.harmless[1 - half :: 2]])
        calibration = with_traffic(card, tested.language, other)
        if calibration is None:
            return None
        wrong = _wrong(card, calibration, tested.harmful[half::2], tested.harmless[half::2])
        missed, alarms = missed + wrong[0], alarms + wrong[1]
    return missed, alarms


def curves(tested: Sequence[Measured], nulls: Nulls) -> list[CurveRow]:
    """Misses against false alarms at every threshold, the monitor's and those of the null with the best AUROC.

    Args:
        tested: What was measured; of a single class there is no curve.
        nulls: Fitted on the monitor's own labels.

    Returns:
        The corners, from the threshold that flags nothing to the one that flags all.
    """
    rows: list[CurveRow] = []
    for one in tested:
        if not len(one.harmful) or not len(one.harmless):
            continue
        against = nulls.scores((one.texts[0], one.rows[0]), (one.texts[1], one.rows[1]))
        best = max(against, key=lambda name: auroc(*against[name]).value)
        for series, (harmful, harmless) in {ITSELF: (one.harmful, one.harmless), best: against[best]}.items():
            labels = np.repeat([1, 0], [len(harmful), len(harmless)])
            alarms, hits, _ = roc_curve(labels, np.concatenate([harmful, harmless]))
            rows += [
                CurveRow(
                    language=one.language,
                    prompt_set=one.prompt_set,
                    shift=one.shift,
                    series=series,
                    false_alarm=float(alarm),
                    miss=float(1 - hit),
                )
                for alarm, hit in zip(alarms, hits, strict=True)
            ]
    return rows


def summary(rows: Sequence[MonitorRow]) -> list[MonitorRow]:
    """The rows that a card keeps: AUROC, and miss and false alarm at its own thresholds, without shifts."""
    return [
        row
        for row in rows
        if not row["shift"] and row["calibration"] in ("", "card") and not row["figure"].startswith("miss at")
    ]
