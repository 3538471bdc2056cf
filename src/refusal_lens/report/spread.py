"""How a share varies over languages, in words: the worst named first, a mean never without its ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from refusal_lens.report.facts import Facts, HeadlineRow
from refusal_lens.report.shares import NullShare, Share, percent
from refusal_lens.report.text import listing

COUNTABLE = 50
NAMED = 3


def worst_and_rest(
    rows: Iterable[HeadlineRow], share: Callable[[HeadlineRow], Share | None]
) -> tuple[list[tuple[HeadlineRow, Share]], list[tuple[HeadlineRow, Share]]]:
    """Languages whose share clearly stands above the middle language's, highest first, and the others.

    Clearly: the interval lies above the middle language's interval. Where none does, the highest is named alone, if it is
    higher than another at all.
    """
    known = [(row, found) for row in rows if (found := share(row)) is not None and found.rate is not None]
    known.sort(key=lambda item: -(item[1].rate or 0.0))
    if not known:
        return [], []
    middle = known[len(known) // 2][1]
    above = [item for item in known if (item[1].low or 0.0) > (1.0 if middle.high is None else middle.high)]
    if not above and known[0][1].rate != known[-1][1].rate:
        above = known[:1]
    return above, known[len(above) :]


def spread_words(
    rows: Iterable[HeadlineRow], share: Callable[[HeadlineRow], Share | None], start: str, what: str
) -> str:
    """`.. 25 of 25 harmful prompts in Yoruba, 0 or 1 of 25 in the other 13.`; empty where nothing was measured."""
    above, rest = worst_and_rest(rows, share)
    every = [*above, *rest]
    where = f"in {every[0][0].name}" if len(every) == 1 else f"in each of {len(every)} languages"
    if not every:
        return ""
    if not any(found.k for _, found in every):
        most = percent(max(found.high or 0.0 for _, found in every))
        return f"{start} none of the {what} {where.replace('each', 'any')}; rates of up to {most} could look the same."
    if not above:
        return f"{start} {_counted([found for _, found in rest], what)} {where}."
    shown = above[:NAMED]
    named = listing(
        [f"{_counted([found], '' if place else what)} in {row.name}" for place, (row, found) in enumerate(shown)]
    )
    more = f" ({len(above) - NAMED} more stand out)" if len(above) > NAMED else ""
    where = rest[0][0].name if len(rest) == 1 else f"the other {len(rest)}"
    others = f", {_counted([found for _, found in rest], '')} in {where}" if rest else ""
    return f"{start} {named}{more}{others}."


def _counted(shares: list[Share], what: str) -> str:
    """K of n, with its percent where n is more than a reader counts; a range over several."""
    what = f" {what}" if what else ""
    low, high = min(share.k for share in shares), max(share.k for share in shares)
    sizes = {share.n for share in shares}
    rates = [share.rate or 0.0 for share in shares]
    ranged = (
        percent(min(rates))
        if percent(min(rates)) == percent(max(rates))
        else f"{percent(min(rates))} to {percent(max(rates))}"
    )
    if len(sizes) > 1:
        return f"{ranged} of{what}" if what else ranged
    joined = f"{low}" if low == high else f"{low} {'or' if high == low + 1 else 'to'} {high}"
    size = next(iter(sizes))
    return f"{joined} of {size}{what}" + (f" ({ranged})" if size > COUNTABLE else "")


def extremes(facts: Facts, column: str) -> str:
    """`0 % in Arabic to 100 % in Yoruba`: the least and the most of a headline column; empty where all are alike."""
    shares: dict[str, Share | NullShare | None] = {row.name: getattr(row, column) for row in facts.headline}
    found = (
        (name, share.mean if isinstance(share, NullShare) else share.rate) for name, share in shares.items() if share
    )
    rates = {name: rate for name, rate in found if rate is not None}
    least, most = min(rates.values(), default=0.0), max(rates.values(), default=0.0)
    if percent(least) == percent(most):
        return ""
    ends = [(value, [name for name, rate in rates.items() if rate == value]) for value in (least, most)]
    return " to ".join(
        f"{percent(value)} in {names[0] if len(names) == 1 else f'{len(names)} languages'}" for value, names in ends
    )
