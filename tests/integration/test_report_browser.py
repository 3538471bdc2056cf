"""The real page in a real Chromium without any network: charts draw, nothing overflows, nothing leaves the machine."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from defence_folders import make_bench, make_monitor
from refusal_lens.report import build_comparison, build_report, save_run_figures
from report_runs import LANGUAGES, make_run, write_completions, write_rows

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
ATTACK = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
MOST_BYTES = 2_000_000
DRAWN = "document.documentElement.dataset.drawn"

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full report of 14 languages from two sources, with revealed hostile text, a bench of defences and a monitor."""
    folder = tmp_path_factory.mktemp("report")
    run = make_run(folder / "run", sources=("en", "de"), n_layers=32)
    write_completions(run, language="en", text=ATTACK, prompt=ATTACK)
    monitor = make_monitor(folder / "monitor", LANGUAGES, null=ATTACK)
    return build_report(run.root, reveal=True, bench=make_bench(folder / "bench"), monitor=monitor)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; the tests skip where it is absent."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        opened.close()


def opened(browser: Browser, page: Path, *, width: int, scheme: str = "light") -> tuple[Page, list[str]]:
    said: list[str] = []
    tab = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light", offline=True
    ).new_page()
    tab.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: said.append(f"error: {error}"))
    tab.on("request", lambda request: said.append(f"request: {request.url[:80]}"))
    tab.goto(page.as_uri(), timeout=120_000)  # other processes may keep the browser waiting
    tab.wait_for_function(DRAWN, timeout=120_000)
    return tab, said


def test_page_is_small_and_figures_are_files(built: Path) -> None:
    assert built.stat().st_size < MOST_BYTES
    figures = built.parent / "figures"
    names = {file.stem for file in figures.glob("*.svg")}
    assert len(names) == 12
    assert names == {file.stem for file in figures.glob("*.pdf")}
    assert all(file.read_bytes().startswith(b"%PDF-") for file in figures.glob("*.pdf"))
    assert all(file.read_text().startswith("<svg") for file in figures.glob("*.svg"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_charts_draw_offline_without_a_word_and_nothing_overflows(
    built: Path, browser: Browser, width: int, scheme: str
) -> None:
    tab, said = opened(browser, built, width=width, scheme=scheme)
    assert said == [f"request: {built.as_uri()[:80]}"]
    assert (
        tab.evaluate(
            "[...document.querySelectorAll('[data-figure]')].filter(x => !x.querySelector('svg .mark-symbol, svg"
            " .mark-rect, svg .mark-line')).length"
        )
        == 0
    )
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate("window.pwned") is None
    assert tab.evaluate(DRAWN) == scheme
    hints = "[...document.querySelectorAll('.hint')].map(x => getComputedStyle(x).display)"
    assert set(tab.evaluate(hints)) == ({"block"} if width < 700 else {"none"}), "wide charts say that they scroll"
    tab.context.close()


def test_controls_change_the_charts_and_colours_follow_the_choice(built: Path, browser: Browser) -> None:
    tab, said = opened(browser, built, width=1280)
    texts = "[...document.querySelectorAll('#chart-cosines svg .mark-text text')].map(x => x.textContent).join()"
    before = tab.evaluate(texts)
    tab.locator("#controls-cosines input").fill("3")
    tab.wait_for_timeout(300)
    changed = tab.evaluate(texts)
    assert changed != before
    tab.get_by_role("button", name="Dark").click()
    tab.wait_for_function(f"{DRAWN} === 'dark'", timeout=60_000)
    assert tab.evaluate(texts) == changed
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"
    assert len(said) == 1
    tab.context.close()


def test_tables_sort_by_the_numbers_behind_their_cells(built: Path, browser: Browser) -> None:
    tab, said = opened(browser, built, width=1280)
    head = tab.locator("#languages table").first.locator("thead tr:last-child th").nth(2)
    rows = "[...document.querySelector('#languages table').tBodies[0].rows]"
    column = f"{rows}.map(r => Number(r.cells[2].dataset.value))"
    before = tab.evaluate(column)
    head.get_by_role("button").click()
    assert tab.evaluate(column) == sorted(before, reverse=True) != before
    head.get_by_role("button").press("Enter")
    assert tab.evaluate(column) == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    assert len(said) == 1
    tab.context.close()


def test_page_is_named_and_ordered_for_screen_readers(built: Path, browser: Browser) -> None:
    tab, _ = opened(browser, built, width=1280)
    assert tab.evaluate("document.documentElement.lang") == "en"
    assert tab.locator("h1").count() == 1
    assert tab.evaluate("[...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent.trim())")
    assert tab.evaluate("[...document.querySelectorAll('thead tr:last-child th')].every(t => t.scope === 'col')")
    assert tab.evaluate(
        "[...document.querySelectorAll('[role=img], [role=region]')].every(t => t.getAttribute('aria-label').length"
        " > 10)"
    )
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(x => x.id)")
    assert len(ids) == len(set(ids))
    assert tab.evaluate("[...document.querySelectorAll('.toc a')].every(a => document.getElementById(a.hash.slice(1)))")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    rows = "[...document.querySelectorAll('figure details')].map(x => [x.open, x.querySelectorAll('tbody tr').length])"
    printed = tab.evaluate(rows)
    assert {opened for opened, count in printed if count <= 40} == {True}
    assert {opened for opened, count in printed if count > 40} == {False}, (
        "hundreds of rows are for the screen and the CSV"
    )
    tab.context.close()


def findings(tab: Page) -> list[str]:
    """What axe-core finds serious or worse, with the element."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{found['impact']} {found['id']}: {node['html'][:120]}"
        for found in Axe().run(tab).response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs side by side, one under a hostile name, the paper's values beside them."""
    folder = tmp_path_factory.mktemp("compared")
    runs = [make_run(folder / name, languages=("en", "ar", "th", "zh"), n_layers=2, seed=at)
            for at, name in enumerate(("plain", "<img src=x onerror=alert(1)>"))]  # fmt: skip
    for at, run in enumerate(runs):
        write_rows(run, "verdicts", [
            {"intervention": "baseline", "source": "", "language": code, "prompts": harm, "prompt_id": f"p{number}",
             "label": "complied" if (number + at) % 3 else "refused", "prompt_set": "testbed"}
            for code in ("en", "ar", "th", "zh") for harm in ("harmful", "harmless") for number in range(30)
        ])  # fmt: skip
    return build_comparison([run.root for run in runs], out=folder / "page.html", paper=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that `built` has, in five languages and two layers: axe reads every cell of every table, opened."""
    folder = tmp_path_factory.mktemp("small")
    codes = ("en", "ar", "th", "yo", "zh")
    run = make_run(folder / "run", languages=codes, sources=("en", "ar"), n_layers=2)
    write_completions(run, language="ar", text=ATTACK, prompt=ATTACK)
    monitor = make_monitor(folder / "monitor", codes, null=ATTACK)
    return build_report(run.root, reveal=True, bench=make_bench(folder / "bench"), monitor=monitor)


@pytest.mark.parametrize("which", ["small", "compared"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_axe_finds_nothing_serious(
    which: str, width: int, scheme: str, browser: Browser, request: pytest.FixtureRequest
) -> None:
    """A report with hostile texts revealed, defences, a monitor and everything folded opened; a comparison."""
    page: Path = request.getfixturevalue(which)
    tab, said = opened(browser, page, width=width, scheme=scheme)
    assert which == "compared" or all(tab.locator(f"#{name}").count() == 1 for name in ("defences", "monitor", "texts"))
    tab.evaluate("document.querySelectorAll('details').forEach(x => { x.open = true; })")
    assert findings(tab) == []
    assert tab.evaluate("window.pwned") is None
    assert said == [f"request: {page.as_uri()[:80]}"]
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.context.close()


def test_axe_would_find_something(browser: Browser, tmp_path: Path) -> None:
    """The positive control: a picture without words and grey on white."""
    page = tmp_path / "bad.html"
    page.write_text("<html data-drawn=1><body><img src='data:,'><p style='color:#ccc;background:#fff'>Hello</p>")
    tab, _ = opened(browser, page, width=800)
    assert {line.split()[1] for line in findings(tab)} >= {"image-alt:", "color-contrast:"}
    tab.context.close()


def number(cell: str) -> float | str:
    """A number as such: 1 and 1.0 are the same, which two languages write differently."""
    try:
        return float(cell)
    except ValueError:
        return cell


def test_a_figure_is_saved_as_it_is_shown_and_its_numbers_as_csv(built: Path, browser: Browser, tmp_path: Path) -> None:
    tab, said = opened(browser, built, width=1280)
    starts = {"SVG": b"<svg", "PNG": b"\x89PNG", "CSV": b"set,language,series,rate"}
    for kind, start in starts.items():
        with tab.expect_download() as waiting:
            tab.locator("[data-save=untouched]").get_by_role("button", name=kind).click()
        waiting.value.save_as(tmp_path / kind)
        assert waiting.value.suggested_filename == f"untouched.{kind.lower()}"
        assert (tmp_path / kind).read_bytes().startswith(start)
    beside = {name: built.parents[1] / name for name in ("bench", "monitor")}
    saved = save_run_figures(built.parent, tmp_path / "figures", **beside)
    ours, theirs = (list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))
                    for file in (tmp_path / "figures" / "untouched.csv", tmp_path / "CSV"))  # fmt: skip
    assert ours[0] == theirs[0]
    assert [[number(cell) for cell in row] for row in ours] == [[number(cell) for cell in row] for row in theirs]
    assert {file.suffix for file in saved} == {".svg", ".pdf", ".png", ".csv"}
    assert len(saved) == 4 * (12 + len(beside))
    assert (
        (tmp_path / "figures" / "monitor.csv").read_text().startswith("language,kind,series,reached,false_alarm,miss")
    )
    assert not [line for line in said if line.startswith(("error", "request: http"))]
    tab.context.close()
