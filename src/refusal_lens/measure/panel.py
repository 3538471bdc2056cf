"""A comparison seen by every judge of a panel: where they disagree about its direction, it is no result.

    judges disagree   one judge's difference is above zero and another's below; or one's interval lies beyond zero
                      where another's difference is exactly zero

The rows themselves stay the first judge's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, cast

from refusal_lens.core.names import AGREE, DISAGREE
from refusal_lens.core.table import Fields
from refusal_lens.core.tables import PanelRow

RowT = TypeVar("RowT")
_ANSWER = ("intervention", "source", "language", "prompts", "prompt_id", "prompt_set")


def by_judge(verdicts: Iterable[Fields], panel: Iterable[Fields]) -> dict[str, list[Fields]]:
    """The table of verdicts once more by each further judge.

    Args:
        verdicts: The table of verdicts, by the first judge.
        panel: The table `panel`; empty where one judge alone spoke.

    Returns:
        By judge, the same rows with its labels; an answer it said nothing of is unscored.
    """
    rows = list(verdicts)
    first = {str(row.get("judge")) for row in rows}
    votes: dict[str, dict[tuple[object, ...], str]] = {}
    for vote in cast("Iterable[PanelRow]", panel):
        if vote["judge"] not in first:
            votes.setdefault(vote["judge"], {})[_answer(cast("Fields", vote))] = vote["label"]
    return {
        judge: [{**row, "label": labels.get(_answer(row), "unscored")} for row in rows]
        for judge, labels in votes.items()
    }


def mark_directions(
    rows: Sequence[RowT], others: Sequence[Iterable[RowT]], *, key: Callable[[RowT], object]
) -> list[RowT]:
    """Say in the column `judges` of every comparison whether all judges see the same direction.

    Args:
        rows: Comparisons by the first judge, with difference, low and high.
        others: The same comparisons by each further judge; none leaves the column null.
        key: What identifies a comparison.

    Returns:
        The rows; null also where one judge alone could compare.
    """
    seen = [{key(row): row for row in other} for other in others]
    return [_marked(row, [found for other in seen if (found := other.get(key(row))) is not None]) for row in rows]


def disagree(row: Fields) -> bool:
    """Whether the judges of a panel disagree about the direction of a comparison."""
    return row.get("judges") == DISAGREE


def _marked(row: RowT, others: Sequence[RowT]) -> RowT:
    fields = [cast("Mapping[str, float | None]", one) for one in (row, *others)]
    known = [(found, one) for one in fields if (found := one["difference"]) is not None]
    if len(known) < 2:
        return row
    least, most = min(found for found, _ in known), max(found for found, _ in known)
    sure = any((one["low"] or 0.0) > 0 or (one["high"] or 0.0) < 0 for _, one in known)
    apart = least < 0 < most or (sure and any(found == 0 for found, _ in known))
    return cast("RowT", {**cast("Fields", row), "judges": DISAGREE if apart else AGREE})


def _answer(row: Fields) -> tuple[object, ...]:
    source = "" if row["intervention"] == "baseline" else row["source"]
    return tuple(source if name == "source" else row.get(name) for name in _ANSWER)
