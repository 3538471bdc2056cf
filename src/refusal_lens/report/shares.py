"""Counts as shares with their interval, and how numbers are written for people.

A share is k of n with a 95 % interval as stored in the run; a refusal share is the complement of the stored compliance
share (n - k of n, interval mirrored). Nothing is re-estimated here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from refusal_lens.core.tables import RateRow

UNIT = "\N{NO-BREAK SPACE}%"


@dataclass(frozen=True, slots=True)
class Share:
    """One measured share.

    Attributes:
        k: Counted answers.
        n: Judged answers.
        unscored: Answers that could not be judged; in neither k nor n.
        rate: k / n, None when nothing was judged.
        low: Lower end of the 95 % interval in [0, 1].
        high: Upper end.
        truncated: Of the n, cut at the token limit; None where not known.
        uncertain: Of the n, scored near the judge's threshold; None where not known.
        off_language: Of the n, in another known language than the prompt; None where not known.
        corrected: The rate corrected for the judge's measured error, and its interval; None where that was never measured.
    """

    k: int
    n: int
    unscored: int
    rate: float | None
    low: float | None
    high: float | None
    truncated: int | None = None
    uncertain: int | None = None
    off_language: int | None = None
    corrected: tuple[float, float, float] | None = None

    @property
    def complement(self) -> Share:
        """The share of the other answers: refusals where this one counts compliance."""
        return replace(
            self,
            k=self.n - self.k,
            rate=None if self.rate is None else 1 - self.rate,
            low=None if self.high is None else 1 - self.high,
            high=None if self.low is None else 1 - self.low,
            corrected=self.corrected and (1 - self.corrected[0], 1 - self.corrected[2], 1 - self.corrected[1]),
        )

    @property
    def doubts(self) -> str:
        """What stands beside the rate: unscored, truncated, uncertain, off-language answers, and the judge's own error."""
        counted = (
            (self.unscored, "unscored"),
            (self.truncated, "truncated"),
            (self.uncertain, "uncertain"),
            (self.off_language, "off-language"),
        )
        said = [f"{count} {name}" for count, name in counted if count]
        if self.corrected is not None:
            rate, low, high = self.corrected
            said.append(f"with the judge's error {percent(rate)} {span(low, high)}")
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class NullShare:
    """The same cell under several random directions: every rate, their mean and their range."""

    rates: tuple[float, ...]
    n: int

    @property
    def mean(self) -> float | None:
        """Mean rate over the random directions; None when none was measured."""
        return mean(self.rates)


def share_of(row: RateRow) -> Share:
    """A row of the table `rates` as a share."""
    return Share(
        row["k"],
        row["n"],
        row["unscored"],
        row["rate"],
        row["low"],
        row["high"],
        row["truncated"],
        row["uncertain"],
        row["off_language"],
        None
        if row["corrected"] is None or row["corrected_low"] is None or row["corrected_high"] is None
        else (row["corrected"], row["corrected_low"], row["corrected_high"]),
    )


def percent(value: float | None, *, digits: int = 0) -> str:
    """A share in [0, 1] as percent; never rounds a partial share to 0 or 100."""
    if value is None:
        return "–"
    shown = f"{100 * value:.{digits}f}"
    if value > 0 and float(shown) == 0:
        return f"<{10**-digits:g}{UNIT}"
    if value < 1 and float(shown) == 100:
        return f">{100 - 10**-digits:g}{UNIT}"
    return f"{shown}{UNIT}"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, signed."""
    if value is None:
        return "–"
    shown = f"{100 * value:+.0f}".replace("-", "−")
    return "0" if shown[1:] == "0" else shown


def number(value: float | None, *, digits: int = 2) -> str:
    """A number with a fixed number of decimals and a true minus; `–` for none."""
    if value is None:
        return "–"
    if 0 < abs(value) < 10**-digits / 2:
        return f"{value:.1e}".replace("-", "−")
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, *, digits: int = 2) -> str:
    """A change with its sign and a fixed number of decimals."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def p_text(value: float | None) -> str:
    """A p value as people read it."""
    if value is None:
        return "–"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def span(low: float | None, high: float | None) -> str:
    """`[low, high]` in percent; empty where an end is not known."""
    return "" if low is None or high is None else f"[{100 * low:.0f}, {100 * high:.0f}]".replace("-", "−")


def interval(share: Share) -> str:
    """`[low, high]` of a share in percent."""
    return span(share.low, share.high)


def mean(values: Iterable[float | None]) -> float | None:
    """Arithmetic mean of the known values; None of nothing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
