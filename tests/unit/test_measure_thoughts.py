"""Where outputs with thoughts refuse: counted by hand."""

from __future__ import annotations

from typing import cast

from refusal_lens.core.tables import THOUGHTS, VerdictRow
from refusal_lens.measure.thoughts import thought_rows


def _rows(language: str, *pairs: tuple[str | None, str]) -> list[VerdictRow]:
    base = {"intervention": "baseline", "source": "", "language": language, "prompts": "harmful", "prompt_set": "own"}
    return [cast("VerdictRow", {**base, "thoughts": thoughts, "label": label}) for thoughts, label in pairs]


def test_counts_are_those_of_a_hand_count() -> None:
    refused, complied = "refused", "complied"
    rows = [
        *_rows("en", (refused, refused), (refused, complied), (refused, complied), (complied, refused)),
        *_rows("en", (complied, complied), ("unscored", refused), (refused, "unscored"), (None, refused)),
        *_rows("de", (None, refused), (None, complied)),
    ]
    (row,) = thought_rows(rows)
    assert (row["language"], row["n"], row["unjudged"]) == ("en", 5, 2)
    assert (row["both"], row["thoughts_only"], row["answer_only"], row["neither"]) == (1, 2, 1, 1)
    assert [column.name for column in THOUGHTS.described] == list(row)


def test_a_model_that_never_thinks_has_no_rows() -> None:
    assert thought_rows(_rows("en", (None, "refused"))) == []
