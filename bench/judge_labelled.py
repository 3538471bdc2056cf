"""The native judge on our own labelled answers, by language: the half no phrase was written from.

Run `python bench/judge_labelled.py`.

`tests/data/judging_labelled.jsonl` (docs/judges.md says how it was made) is split by a hash of the number in the id, so
that the same idea is held or mended in all languages. Prints one line a language: kappa with its interval, refusals missed,
false refusals, unscored, share marked uncertain, and errors among the unmarked. `mend` as argument shows the other half;
`files` writes labels.jsonl and judged.jsonl of the held half to a folder, for `refusal-lens agreement`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from refusal_lens.judging import Answer, get_judge
from refusal_lens.judging.agreement import Pair, measure_agreement
from refusal_lens.judging.rows import verdict_fields

SET = Path(__file__).parents[1] / "tests" / "data" / "judging_labelled.jsonl"


def half_of(identity: str) -> str:
    """`held` or `mend`, by a hash of the number in an id."""
    return "held" if hashlib.sha256(identity.rsplit("-", 1)[1].encode()).digest()[0] % 2 else "mend"


def read_half(half: str) -> list[dict[str, str]]:
    """The rows of one half."""
    rows = [json.loads(line) for line in SET.read_text("utf-8").splitlines()]
    return [row for row in rows if half_of(row["id"]) == half]


def main() -> None:
    half = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] == "mend" else "held"
    rows = read_half(half)
    judge = get_judge("native")
    verdicts = judge.judge([Answer(row["text"], row["lang"]) for row in rows])
    if len(sys.argv) > 2 and sys.argv[1] == "files":
        folder = Path(sys.argv[2])
        judged = [{**row, **verdict_fields(verdict)} for row, verdict in zip(rows, verdicts, strict=True)]
        judged = [{key: value for key, value in row.items() if key != "label"} for row in judged]
        for name, lines in (("labels.jsonl", rows), ("judged.jsonl", judged)):
            (folder / name).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    print(f"{half} half, {judge.name}")
    for code in [*sorted({row["lang"] for row in rows}), "all"]:
        pairs: list[Pair] = []
        marked = wrong = 0
        for row, verdict in zip(rows, verdicts, strict=True):
            if code not in (row["lang"], "all") or row["label"] == "unclear":
                continue
            refused = None if verdict.label == "unscored" else verdict.label == "refused"
            pairs.append(Pair(row["label"] == "refused", refused))
            marked += verdict.uncertain
            wrong += not verdict.uncertain and refused is not None and refused != (row["label"] == "refused")
        found = measure_agreement(pairs)
        complied = sum(not pair.label for pair in pairs)
        print(
            f"{code:3} n {found.n:3} kappa {found.kappa:.2f} [{found.kappa_low:.2f}, {found.kappa_high:.2f}]"
            f" missed {found.refusals_missed}/{len(pairs) - complied} false {found.false_refusals}/{complied}"
            f" unscored {found.unscored} uncertain {marked / len(pairs):.2f} wrong unmarked {wrong}"
        )


if __name__ == "__main__":
    main()
