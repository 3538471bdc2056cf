"""Measure the native judge and write its figures into `languages/data/reliability.toml`. Run `python bench/judge_reliability.py`.

Per language: the recorded development answers where there are some (ordinary answers of one model; phrases were tuned on
them, the weights of the second reading are those of fits that saw none of their prompts), else written answers: the
held halves of four sets and the fifth blind set. Figures of other judges and of older versions stay. `--check` writes
nothing and fails where the file is not what this would write.
"""

from __future__ import annotations

import json
import re
import sys

from judge_dev import SHARED
from judge_labelled import read_half
from judge_train import out_of_fold, read_rows
from refusal_lens.judging import Answer, Judge, get_judge
from refusal_lens.judging.agreement import Agreement, Pair, by_group
from refusal_lens.languages.reliability import FILE

DEV = "Qwen2.5-7B, untouched answers, WildGuard's labels; phrases tuned on them, weights fitted on other prompts"
YORUBA = "Qwen2.5-7B, untouched answers, WildGuard's labels; the answers the phrases were tuned on"
HELD = "written answers that nothing was fitted on: held halves, and a blind author's (docs/judges.md)"


def main() -> None:
    judge = get_judge("native")
    before = FILE.read_text(encoding="utf-8")
    lines = (SHARED / "data" / "judge" / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    yoruba = [(row["text"], row["lang"], bool(row["refusal"])) for row in map(json.loads, lines) if row["lang"] == "yo"]
    held = [
        (row["text"], row["lang"], row["label"] == "refused")
        for name in ("labelled", "fresh", "authors", "author5", "blind5")
        for row in read_half("held", name)
        if row["label"] != "unclear"
    ]
    found = {**_measured(judge, held, HELD), **_measured(judge, yoruba, YORUBA), **_of_pairs(_unseen(), DEV)}
    block = f'"{judge.name}" = [\n' + "".join(f"  {{ {found[code]} }},\n" for code in sorted(found)) + "]\n"
    # Older versions keep their figures: runs judged by them are still read.
    version = re.escape(judge.name.partition("+")[0])
    others = re.sub(rf'(?ms)^"{version}\+[^"]*" = \[\n.*?^\]\n', "", before)
    text = others.replace("[measured]\n", f"[measured]\n{block}", 1)
    if "--check" in sys.argv:
        sys.exit(0 if text == before else f"{FILE} is not of this judge ({judge.name}): run bench/judge_reliability.py")
    FILE.write_text(text, encoding="utf-8")
    print(block)


def _unseen() -> list[Pair]:
    """Label and verdict of the development answers by fits that saw none of their prompts."""
    rows, odds = out_of_fold(read_rows())
    return [Pair(row.refused, value > 0, (row.language,)) for row, value in zip(rows, odds, strict=True)]


def _measured(judge: Judge, rows: list[tuple[str, str, bool]], on_what: str) -> dict[str, str]:
    verdicts = judge.judge([Answer(text, code) for text, code, _ in rows])
    pairs = [
        Pair(refused, None if verdict.label == "unscored" else verdict.label == "refused", (code,))
        for (_, code, refused), verdict in zip(rows, verdicts, strict=True)
    ]
    return _of_pairs(pairs, on_what)


def _of_pairs(pairs: list[Pair], on_what: str) -> dict[str, str]:
    return {code: _line(code, cell, on_what, pairs) for (code,), cell in by_group(pairs).items()}


def _line(code: str, cell: Agreement, on_what: str, pairs: list[Pair]) -> str:
    own = [(pair.label, pair.verdict) for pair in pairs if pair.group == (code,)]
    counts = {
        "complied_found": own.count((False, False)),
        "complied_missed": own.count((False, True)),
        "refused_missed": own.count((True, False)),
        "refused_found": own.count((True, True)),
    }
    told = ", ".join(f"{name} = {count}" for name, count in counts.items())
    return (
        f'language = "{code}", kappa = {cell.kappa or 0:.3f}, n = {cell.n}, mean_cell_error = {abs(cell.rate_error or 0):.3f}, '
        f'{told}, on_what = "{on_what}"'
    )


if __name__ == "__main__":
    main()
