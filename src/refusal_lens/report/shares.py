"""Counts as shares with their interval, and how numbers are written for people.

A share is k of n with a 95 % interval as stored in the run; a refusal share is the complement of the stored compliance
share (n - k of n, interval mirrored). Nothing is re-estimated here.
"""

from __future__ import annotations

from dataclasses import dataclass

from refusal_lens.report.inputs import Row, count_of, real_of

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
    """

    k: int
    n: int
    unscored: int
    rate: float | None
    low: float | None
    high: float | None

    @property
    def complement(self) -> Share:
        """The share of the other answers: refusals where this one counts compliance."""
        return Share(
            self.n - self.k,
            self.n,
            self.unscored,
            None if self.rate is None else 1 - self.rate,
            None if self.high is None else 1 - self.high,
            None if self.low is None else 1 - self.low,
        )


@dataclass(frozen=True, slots=True)
class NullShare:
    """The same cell under several random directions: every rate, their mean and their range."""

    rates: tuple[float, ...]
    n: int

    @property
    def mean(self) -> float | None:
        """Mean rate over the random directions; None when none was measured."""
        return sum(self.rates) / len(self.rates) if self.rates else None


def share_of(row: Row) -> Share:
    """A row of the table `rates` as a share."""
    return Share(
        count_of(row, "k"),
        count_of(row, "n"),
        count_of(row, "unscored"),
        real_of(row, "rate"),
        real_of(row, "low"),
        real_of(row, "high"),
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
    if value != 0 and abs(value) < 10**-digits / 2:
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


def interval(share: Share) -> str:
    """`[low, high]` in percent."""
    if share.low is None or share.high is None:
        return ""
    return f"[{100 * share.low:.0f}, {100 * share.high:.0f}]"


def mean(values: list[float]) -> float | None:
    """Arithmetic mean; None of nothing."""
    return sum(values) / len(values) if values else None
