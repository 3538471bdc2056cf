"""Pictures of the page of answers for the docs: one answer that ablation changed, light and dark.

    python bench/view_picture.py RUN docs/images

Takes a run of a testbed model (its prompts and answers are mild and ours), writes the page of answers into a temporary
folder, opens it in Chromium without any network, and writes `view-light.png` and `view-dark.png`. Needs playwright and a
Chromium (`--chromium PATH`, Debian's by default).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from refusal_lens.report import build_view

WIDTH, HEIGHT, SCALE = 1100, 760, 2


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description="Pictures of the page of answers.")
    parser.add_argument("run", type=Path, help="run directory of a testbed model")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="path of Chromium")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        page_file = build_view(given.run, out=Path(folder) / "view").page
        browser = play.chromium.launch(executable_path=given.chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            tab = browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT},
                device_scale_factor=SCALE,
                offline=True,
                color_scheme=scheme,
            )
            tab.goto(page_file.absolute().as_uri())
            tab.wait_for_function("document.documentElement.dataset.ready")
            tab.check("#changed")
            tab.locator("details").first.evaluate("item => { item.open = true; }")
            tab.screenshot(path=given.out / f"view-{scheme}.png")
            print(f"{given.out}/view-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
