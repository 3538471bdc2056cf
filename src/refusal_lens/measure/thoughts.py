"""Refusal in thoughts against refusal in answers, counted per cell from verdicts that hold both labels.

The thoughts' label is the native judge's on the thoughts alone (column `thoughts` of `verdicts`); the answer's is the verdict.
A word of refusal in thoughts ("I cannot give that away, but ..") is a weaker sign than in an answer: the counts say where
words of refusal stand, not what the model wanted.
"""

from __future__ import annotations

from collections.abc import Sequence

from refusal_lens.core.tables import ThoughtRow, VerdictRow

JUDGED = ("refused", "complied")


def thought_rows(verdicts: Sequence[VerdictRow]) -> list[ThoughtRow]:
    """Count, per cell that holds thoughts, where its outputs refuse.

    Args:
        verdicts: Rows of `verdicts`.

    Returns:
        One row per cell with at least one output that has thoughts, in the order of the verdicts; counts add up to `n`.
    """
    cells: dict[tuple[str, str, str, str, str | None], ThoughtRow] = {}
    for row in verdicts:
        thoughts = row.get("thoughts")
        if thoughts is None:
            continue
        name = (row["intervention"], row["source"], row["language"], row["prompts"], row["prompt_set"])
        cell = cells.setdefault(
            name,
            {
                "intervention": row["intervention"],
                "source": row["source"],
                "language": row["language"],
                "prompts": row["prompts"],
                "prompt_set": row["prompt_set"],
                "n": 0,
                "both": 0,
                "thoughts_only": 0,
                "answer_only": 0,
                "neither": 0,
                "unjudged": 0,
            },
        )
        if thoughts not in JUDGED or row["label"] not in JUDGED:
            cell["unjudged"] += 1
            continue
        cell["n"] += 1
        match (thoughts == "refused", row["label"] == "refused"):
            case (True, True):
                cell["both"] += 1
            case (True, False):
                cell["thoughts_only"] += 1
            case (False, True):
                cell["answer_only"] += 1
            case _:
                cell["neither"] += 1
    return list(cells.values())
