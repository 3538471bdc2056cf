"""Pictures of a run's report for the README: the head of the page and one chart, light and dark.

    python bench/report_picture.py RUN docs/images

Builds the report if it is out of date, opens it in Chromium without any network, and writes `report-light.png`,
`report-dark.png` (head of the page) and `report-chart-light.png`, `report-chart-dark.png`. Needs playwright and a
Chromium (`--chromium PATH`, Debian's by default). The pictures hold numbers and prompts' counts, no text of any model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from refusal_lens.report import build_report, is_current
from refusal_lens.rundir import RunDir

WIDTH, HEIGHT, SCALE = 1280, 860, 2


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description="Pictures of a run's report for the README.")
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="path of Chromium")
    parser.add_argument("--chart", default="rates-harmful", help="name of the chart")
    given = parser.parse_args()
    page_file = RunDir.open(given.run).report_path
    if not is_current(given.run):
        build_report(given.run)
    given.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=given.chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            tab = browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT},
                device_scale_factor=SCALE,
                offline=True,
                color_scheme=scheme,
            )
            tab.goto(page_file.absolute().as_uri())
            tab.wait_for_function("document.documentElement.dataset.drawn")
            tab.locator("#headline").screenshot(path=given.out / f"report-{scheme}.png")
            tab.locator(f"#fig-{given.chart}").screenshot(path=given.out / f"report-chart-{scheme}.png")
            print(f"{given.out}/report-{scheme}.png, {given.out}/report-chart-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
