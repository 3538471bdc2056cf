"""What the run directory's safety costs: share of an audit's wall time spent on keys, digests, flushes, records and plans.

    python bench/safety_overhead.py [LIMIT] [LANGUAGES]

Runs an audit of testbed:universal into a temporary folder and times every call into the run directory from outside (nested
calls count once). What a run without any safety would still have to do, writing its outputs once, is inside the steps.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path

from refusal_lens.config import parse_config
from refusal_lens.languages import resolve_languages
from refusal_lens.pipeline import driver, prepare, run_audit
from refusal_lens.rundir import RunDir, RunLock, results

spent: Counter[str] = Counter()
calls: Counter[str] = Counter()
stack: list[str] = []


def timed(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """The function, with the wall time of its outermost calls added up."""

    @wraps(function)
    def inner(*args: object, **options: object) -> object:
        stack.append(name)
        started = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            stack.pop()
            if not stack:
                spent[name] += time.perf_counter() - started
                calls[name] += 1

    return inner


def main() -> None:
    """Run and print."""
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    languages = resolve_languages(sys.argv[2] if len(sys.argv) > 2 else "en,de,zh")
    for name in ("is_valid", "record", "path", "key", "publish", "sweep", "clean_temporary"):
        setattr(RunDir, name, timed(name, getattr(RunDir, name)))
    results._close = timed("hash and flush outputs", results._close)
    results._commit = timed("rename and record", results._commit)
    driver.write_plan = timed("write_plan", driver.write_plan)
    driver.retract = timed("retract", driver.retract)
    for name in ("__enter__", "__exit__"):
        setattr(RunLock, name, timed("lock", getattr(RunLock, name)))
    data = {"languages": list(languages), "limit": limit}
    tree = {"model": {"spec": "testbed:universal"}, "data": data, "generation": {"max_new_tokens": 64}}
    prepared = prepare(parse_config(tree, where="bench"))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run_audit(prepared, Path(folder) / "run")
        total = time.perf_counter() - started
    for name, seconds in spent.most_common():
        print(f"{name:24} {calls[name]:6} calls {seconds:8.2f} s {100 * seconds / total:6.2f} %")
    share = 100 * sum(spent.values()) / total
    print(f"{len(prepared.tasks)} tasks, {total:.1f} s in all, {sum(spent.values()):.2f} s for safety: {share:.2f} %")


if __name__ == "__main__":
    main()
