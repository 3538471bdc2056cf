"""Verdicts on the shipped testbed models, and the time of the whole 14 x 14 matrix.

    nice -n 5 .venv/bin/python bench/verdict_testbeds.py --out /tmp/verdicts                    four models, five languages
    nice -n 5 .venv/bin/python bench/verdict_testbeds.py --out /tmp/matrix --models aligned --sources all --languages all

Prints the verdict, its reasons, and the seconds each step took (CPU of this process when workers is 1).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from refusal_lens.config import AuditConfig
from refusal_lens.languages import resolve_languages
from refusal_lens.pipeline import prepare, run_audit
from refusal_lens.testbed import names
from refusal_lens.types import Outcome


def main() -> None:
    """Audit each model and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default=",".join(names()))
    parser.add_argument("--languages", default="de,en,es,yo,zh")
    parser.add_argument("--sources", default="de,en,zh")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    for name in asked.models.split(","):
        settings = AuditConfig.model_validate(
            {
                "model": {"spec": f"testbed:{name}"},
                "data": {"languages": resolve_languages(asked.languages), "limit": asked.limit},
                "directions": {"sources": resolve_languages(asked.sources), "random": 5},
                "generation": {"max_new_tokens": 32},
                "transport": {"workers": asked.workers},
            }
        )
        seconds = Counter[str]()

        def note(outcome: Outcome, _total: int, seconds: Counter[str] = seconds) -> None:
            seconds[outcome.task_id.partition("/")[0]] += outcome.seconds

        started = time.perf_counter()
        run_audit(prepare(settings), asked.out / name, on_outcome=note)
        found = json.loads((asked.out / name / "tables" / "verdict.json").read_text(encoding="utf-8"))
        print(f"testbed:{name}: {found['verdict']} ({time.perf_counter() - started:.0f} s)")
        for reason in found["reasons"]:
            print(f"  {reason}")
        for code, item in found["languages"].items():
            print(f"  {code}: {item['status']}: {item['reason']}")
        print("  " + ", ".join(f"{step} {value:.1f} s" for step, value in seconds.most_common()), flush=True)


if __name__ == "__main__":
    main()
