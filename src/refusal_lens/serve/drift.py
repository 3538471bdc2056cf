"""Has the traffic of a language moved away from what its threshold was made for?

The reference are the deciles of z over harmless prompts (`monitor.card`); watched are the last WINDOW scores that were not
flagged, for most traffic is harmless. The distance is Kolmogorov and Smirnov's, read at the nine deciles:

    D = max over i of |share of the window at or below decile i - i / 10|

An alarm needs FEWEST scores and D above FAR, which at 100 scores is more than chance makes in one of a thousand windows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from refusal_lens.monitor import Card

WINDOW, FEWEST, FAR = 300, 100, 0.25


@dataclass
class Drift:
    """Windows of recent scores by language."""

    card: Card
    windows: dict[str, deque[float]] = field(default_factory=dict[str, "deque[float]"])

    def saw(self, language: str, score: float) -> None:
        """Note the raw score of a prompt that was not flagged."""
        calibration = self.card.calibration(language)
        if calibration.harmless:
            window = self.windows.setdefault(language, deque(maxlen=WINDOW))
            window.append(float(calibration.standard(np.asarray([score]))[0]))

    def distances(self) -> Mapping[str, tuple[float, int]]:
        """Distance and number of scores by language, where there are enough."""
        found: dict[str, tuple[float, int]] = {}
        for language, window in self.windows.items():
            if len(window) >= FEWEST:
                found[language] = (distance(np.asarray(window), self.card.calibration(language).harmless), len(window))
        return found

    def alarms(self) -> list[str]:
        """Languages whose traffic has moved."""
        return sorted(language for language, (far, _) in self.distances().items() if far > FAR)


def distance(scores: np.ndarray, deciles: tuple[float, ...]) -> float:
    """Kolmogorov-Smirnov distance of scores from a reference that is known by its deciles."""
    shares = np.asarray([float((scores <= value).mean()) for value in deciles])
    return float(np.abs(shares - np.arange(1, len(deciles) + 1) / (len(deciles) + 1)).max())
