"""Compare files of verdicts with a file of labels, and with each other.

A row's outcome is read from the first of its fields that says one. Labels: `label`, `refusal`, `refused`, `verdict`,
`human`; verdicts: `verdict`, then the same. Understood values: refused / refusal / refuse / yes / true / 1, complied /
compliance / comply / no / false / 0, and unscored / unclear / invalid / null for neither. Rows are matched by `id` where every
row of both files has its own, otherwise by order, and then the texts must be equal where both files have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import cast

from refusal_lens.errors import DataError
from refusal_lens.judging.agreement import (
    Agreement,
    Outcome,
    Pair,
    by_group,
    mean_rate_error,
    measure_agreement,
    trivial,
)
from refusal_lens.judging.correction import CorrectedRate, prediction_powered, rogan_gladen
from refusal_lens.judging.rows import parse_object, read_lines

LABEL_FIELDS = ("label", "refusal", "refused", "human", "verdict")
VERDICT_FIELDS = ("verdict", "label", "refusal", "refused")
_CELL_FIELDS = ("model", "lang", "condition")
_REFUSED = frozenset({"refused", "refusal", "refuse", "yes", "true", "1", "1.0"})
_COMPLIED = frozenset(
    {"complied", "compliance", "compliant", "comply", "no", "false", "0", "0.0", "comply-harmful", "comply-benign"}
)
_NEITHER = frozenset({"unscored", "unclear", "invalid", "none", "null", "", "nan"})

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """One judge against the labels.

    Attributes:
        judge: Its name.
        overall: All rows together.
        groups: Per group of the asked fields.
        cells: Per model, language and condition, as far as the rows have these fields.
        trivial: "Refusal iff baseline" on the same rows, None where no row says its condition.
        corrections: Rates of all rows corrected for the judge's error, where labels cover a part only.
    """

    judge: str
    overall: Agreement
    groups: Mapping[tuple[str, ...], Agreement]
    cells: Mapping[tuple[str, ...], Agreement]
    trivial: Agreement | None
    corrections: tuple[CorrectedRate, ...]

    def as_dict(self) -> dict[str, object]:
        """Everything by name; groups are keyed by their values joined with "/"."""
        return {
            "judge": self.judge,
            "overall": self.overall.as_dict(),
            "groups": {"/".join(group): cell.as_dict() for group, cell in self.groups.items()},
            "cells": len(self.cells),
            "mean_cell_rate_error": mean_rate_error(self.cells),
            "trivial": self.trivial.as_dict() if self.trivial else None,
            "corrections": [correction.as_dict() for correction in self.corrections],
        }


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """All judges against the labels, and against each other.

    Attributes:
        by: Grouping fields.
        matched_by: "id" or "order".
        judges: One report per file of verdicts, or per judge of a file by a panel.
        between: Agreement between each two judges on the rows both scored (the first one's verdicts as labels).
    """

    by: tuple[str, ...]
    matched_by: str
    judges: tuple[JudgeReport, ...]
    between: tuple[tuple[str, str, Agreement], ...]

    def as_dict(self) -> dict[str, object]:
        """For machines: the first judge's numbers at the top level, all of them under "judges"."""
        first = self.judges[0].as_dict()
        return {
            "schema_version": 1,
            "by": list(self.by),
            "matched_by": self.matched_by,
            **first,
            "judges": [report.as_dict() for report in self.judges],
            "between": [{"judges": [a, b], **found.as_dict()} for a, b, found in self.between],
        }


def compare_files(judged: Sequence[Path], *, labels: Path, by: Sequence[str] = ()) -> ComparisonReport:
    """Compare files of verdicts with labels.

    Args:
        judged: Files with verdicts.
        labels: File with labels.
        by: Fields to group by.

    Returns:
        The comparison.

    Raises:
        DataError: A row cannot be read, rows cannot be matched, or a grouping field is missing.
    """
    reference = _read(labels)
    reports: list[JudgeReport] = []
    outcomes: list[tuple[str, list[Outcome]]] = []
    matched_by = "order"
    for path in judged:
        rows = _read(path)
        found, matched_by = _match(rows, reference, path=path, labels=labels)
        named = [None if row is None else outcome_of(row, LABEL_FIELDS, where=str(labels)) for row in found]
        for member in _members(rows):
            votes = [_vote(row, member) for row in rows]
            verdicts = [outcome_of(row, VERDICT_FIELDS, where=f"{path}, row {n}") for n, row in enumerate(votes, 1)]
            pairs = [
                Pair(label, verdict, _group(row, by, path), _is_baseline(row, other))
                for row, other, label, verdict in zip(rows, found, named, verdicts, strict=True)
            ]
            name = _name(votes, path, taken=[report.judge for report in reports])
            reports.append(_report(name, rows, pairs))
            outcomes.append((name, verdicts))
    between = tuple(
        (a, b, measure_agreement(Pair(x, y) for x, y in zip(first, second, strict=True)))
        for (a, first), (b, second) in combinations(outcomes, 2)
        if len(first) == len(second)
    )
    return ComparisonReport(tuple(by), matched_by, tuple(reports), between)


def outcome_of(row: Mapping[str, object], fields: Sequence[str], *, where: str) -> Outcome:
    """What a row says: refused, complied or nothing.

    Args:
        row: The row.
        fields: Names of fields that may say it, first match wins.
        where: Name of the row for the message.

    Returns:
        True for refused, False for complied, None for neither.

    Raises:
        DataError: No such field, or a value not understood.
    """
    for field in fields:
        if field in row:
            value = str(row[field]).strip().lower()
            if value in _REFUSED:
                return True
            if value in _COMPLIED:
                return False
            if value in _NEITHER:
                return None
            raise DataError(
                f"{where}: {field}={row[field]!r} is not understood; give refused, complied or unscored, or 1, 0"
            )
    raise DataError(f"{where}: no verdict or label; give one of the fields {', '.join(fields)}")


def _read(path: Path) -> list[Fields]:
    rows: list[Fields] = []
    for number, line in read_lines(path):
        try:
            rows.append(parse_object(line))
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    return rows


def _members(rows: Sequence[Fields]) -> list[str | None]:
    """The judges of a panel whose verdicts the rows hold, in their order; None stands for the rows' own verdict."""
    names = dict.fromkeys(str(vote["judge"]) for row in rows for vote in _votes(row))
    return list(names) or [None]


def _vote(row: Fields, member: str | None) -> Fields:
    """A row as one judge of the panel sees it; unscored where that judge said nothing."""
    if member is None:
        return row
    found = next((vote for vote in _votes(row) if vote["judge"] == member), {"verdict": "unscored", "judge": member})
    return {"verdict": found["verdict"], "judge": member}


def _votes(row: Fields) -> list[Fields]:
    panel = row.get("panel")
    votes = cast("list[object]", panel) if isinstance(panel, list) else []
    return [cast("Fields", vote) for vote in votes if isinstance(vote, dict) and {"judge", "verdict"} <= vote.keys()]


def _match(rows: list[Fields], reference: list[Fields], *, path: Path, labels: Path) -> tuple[list[Fields | None], str]:
    by_id = {str(row["id"]): row for row in reference if row.get("id") is not None}
    ids = [str(row["id"]) for row in rows if row.get("id") is not None]
    if len(by_id) == len(reference) and len(set(ids)) == len(ids) == len(rows):
        found = [by_id.get(key) for key in ids]
        if not any(row is not None for row in found):
            raise DataError(f"{path} and {labels} have no id in common; check that they belong together")
        return list(found), "id"
    if len(rows) != len(reference):
        raise DataError(
            f"{path} has {len(rows)} rows and {labels} {len(reference)}; give every row of both its own id, or equally many"
        )
    for number, (row, other) in enumerate(zip(rows, reference, strict=True), start=1):
        if "text" in row and "text" in other and row["text"] != other["text"]:
            raise DataError(f"row {number} of {path} and of {labels} have different texts; give the rows ids")
    return list(reference), "order"


def _group(row: Fields, by: Sequence[str], path: Path) -> tuple[str, ...]:
    missing = [field for field in by if field not in row]
    if missing:
        raise DataError(f"{path}: no field {missing[0]!r} to group by; the rows have {', '.join(sorted(row))}")
    return tuple(str(row[field]) for field in by)


def _is_baseline(row: Fields, other: Fields | None) -> bool | None:
    for source in (row, other or {}):
        for field in ("condition", "intervention"):
            if isinstance(source.get(field), str):
                return source[field] == "baseline"
    return None


def _name(rows: list[Fields], path: Path, *, taken: Sequence[str]) -> str:
    names = {str(row["judge"]) for row in rows if isinstance(row.get("judge"), str)}
    name = names.pop() if len(names) == 1 else path.stem
    return f"{name} ({path.name})" if name in taken else name


def _report(name: str, rows: list[Fields], pairs: list[Pair]) -> JudgeReport:
    labelled = [pair for pair in pairs if pair.label is not None]
    cell_fields = [field for field in _CELL_FIELDS if all(field in row for row in rows)]
    in_cells = [
        Pair(pair.label, pair.verdict, tuple(str(row[field]) for field in cell_fields))
        for row, pair in zip(rows, pairs, strict=True)
    ]
    nothing_read = trivial(labelled)
    return JudgeReport(
        judge=name,
        overall=measure_agreement(pairs),
        groups=by_group(pairs) if pairs and pairs[0].group else {},
        cells=by_group(in_cells),
        trivial=measure_agreement(nothing_read) if nothing_read else None,
        corrections=_corrections(pairs),
    )


def _corrections(pairs: list[Pair]) -> tuple[CorrectedRate, ...]:
    known = [(not p.label, not p.verdict) for p in pairs if p.label is not None and p.verdict is not None]
    unknown = [not pair.verdict for pair in pairs if pair.label is None and pair.verdict is not None]
    if not known or not unknown:
        return ()
    found = (prediction_powered(unknown, known), rogan_gladen(unknown, known))
    return tuple(correction for correction in found if correction is not None)
