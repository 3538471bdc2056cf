"""How large a run's page is and how long Chromium works until every chart is drawn.

    python bench/report_speed.py RUN

Prints the page's bytes, and over a few fresh starts the least wall time from navigation to the last chart and the least CPU
time of the page's own process, which other work on the machine does not change. Needs playwright and a Chromium (`--chromium`).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from refusal_lens.report import build_report, is_current
from refusal_lens.rundir import RunDir


def renderers() -> dict[int, float]:
    """CPU seconds so far of every page process on this machine, by process id."""
    found: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            command, fields = (stat.parent / "cmdline").read_bytes(), stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"--type=renderer" in command:
            found[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def main() -> None:
    """Open the page a few times."""
    parser = argparse.ArgumentParser(description="How large a page is and how long it takes to draw.")
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="path of Chromium")
    parser.add_argument("--times", type=int, default=3, help="fresh starts")
    given = parser.parse_args()
    page_file = RunDir.open(given.run).report_path
    if not is_current(given.run):
        build_report(given.run)
    walls, works = [], []
    with sync_playwright() as play:
        for _ in range(given.times):
            others = set(renderers())
            browser = play.chromium.launch(executable_path=given.chromium, args=["--no-sandbox", "--disable-gpu"])
            tab = browser.new_page(viewport={"width": 1280, "height": 900}, offline=True)
            before = renderers()
            start = time.perf_counter()
            tab.goto(page_file.absolute().as_uri())
            tab.wait_for_function("document.documentElement.dataset.drawn", timeout=120_000)
            walls.append(time.perf_counter() - start)
            works.append(sum(cpu - before.get(pid, 0.0) for pid, cpu in renderers().items() if pid not in others))
            browser.close()
    size = page_file.stat().st_size
    print(
        f"{size / 1e6:.2f} MB; drawn after {min(walls):.1f} s at best, {min(works):.1f} s of CPU time in the page's process"
    )


if __name__ == "__main__":
    main()
