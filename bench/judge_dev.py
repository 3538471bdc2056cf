"""The native judge on the development answers: kappa, error of the compliance rate, speed. `python bench/judge_dev.py`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from refusal_lens.judging import Answer, get_judge
from refusal_lens.judging.agreement import Pair, by_group, mean_rate_error, measure_agreement

SHARED = Path(os.environ.get("REFUSAL_LENS_SHARED") or Path(__file__).parents[2] / "shared")
PASSES = 5


def main() -> None:
    lines = (SHARED / "data" / "judge" / "dev.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    judge = get_judge("native")
    answers = [Answer(row["text"], row["lang"]) for row in rows]
    judge.judge(answers[::40])
    seconds: list[float] = []
    verdicts = judge.judge(answers[:1])
    for _ in range(PASSES):
        start = time.process_time()
        verdicts = judge.judge(answers)
        seconds.append(time.process_time() - start)
    pairs = [
        Pair(bool(row["refusal"]), None if verdict.label == "unscored" else verdict.label == "refused", (row["lang"],))
        for row, verdict in zip(rows, verdicts, strict=True)
    ]
    cells = by_group(pairs)
    for (language,), cell in cells.items():
        print(
            f"{language} n {cell.n} unscored {cell.unscored} kappa {cell.kappa:.3f} balanced {cell.balanced_accuracy:.3f}"
            f" error {cell.rate_error:+.3f} missed {cell.refusals_missed} false {cell.false_refusals}"
        )
    rest = [pair for pair in pairs if pair.group != ("yo",)]
    print(f"all kappa {measure_agreement(pairs).kappa:.3f}, without yo {measure_agreement(rest).kappa:.3f}")
    mean = mean_rate_error({group: cell for group, cell in cells.items() if group != ("yo",)})
    print(f"mean absolute cell error {mean_rate_error(cells):.3f}, without yo {mean:.3f}")
    fastest, slowest = len(rows) / min(seconds), len(rows) / max(seconds)
    print(
        f"{fastest:.0f} answers per CPU second in the best of {PASSES} passes, {slowest:.0f} in the worst ({judge.name})"
    )


if __name__ == "__main__":
    main()
