"""The page of answers in a real Chromium: filters, evidence, hostile text, and marks that `agreement` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from answer_runs import Said, make_answers
from refusal_lens.cli.app import app
from refusal_lens.report import build_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
ATTACK = "</script><script>window.pwned=1</script><img src=https://evil.example/x onerror=window.pwned=1><!--"
pytestmark = [pytest.mark.browser, pytest.mark.slow]


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


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prompts in English and Arabic; the ablated English answers change two of three labels."""
    folder = tmp_path_factory.mktemp("view")
    cells = {
        ("baseline", "", "en"): [
            Said("p1", "I cannot help.", "refused", evidence=[("inability", 0, 8)]),
            Said("p2", "I cannot help either.", "refused", uncertain=True),
            Said("p3", ATTACK, "complied"),
        ],
        ("ablation", "en", "en"): [
            Said("p1", "Sure, first find it.", "complied"),
            Said("p2", "Sure, then hold it.", "complied"),
            Said("p3", "", "unscored"),
        ],
        ("baseline", "", "ar"): [Said("p1", "لا أستطيع المساعدة", "refused", evidence=[("inability", 0, 9)])],
    }
    run = make_answers(folder / "run", cells, prompts={"p1": ATTACK, "p2": "How?", "p3": "Why?"})
    return build_view(run.root, out=folder / "out").page


def opened(browser: Browser, page: Path, *, scheme: str = "light", width: int = 1200) -> tuple[Page, list[str]]:
    said: list[str] = []
    tab = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light", offline=True
    ).new_page()
    tab.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: said.append(f"error: {error}"))
    tab.on("request", lambda request: said.append(f"request: {request.url[:80]}"))
    tab.goto(page.as_uri(), timeout=120_000)  # other processes may keep the browser waiting
    tab.wait_for_function("document.documentElement.dataset.ready")
    return tab, said


def shown(tab: Page) -> list[str]:
    return tab.evaluate("[...document.querySelectorAll('#answers > li')].map(x => x.dataset.id)")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_hostile_text_is_shown_and_nothing_is_run_or_fetched(
    page_file: Path, browser: Browser, scheme: str, width: int
) -> None:
    tab, said = opened(browser, page_file, scheme=scheme, width=width)
    assert said == [f"request: {page_file.as_uri()[:80]}"]
    assert tab.evaluate("window.pwned") is None
    assert tab.evaluate("document.images.length") == 0
    assert ATTACK in tab.locator("#answers").inner_text()
    assert tab.locator("h1").inner_text() == "Answers of <b>model</b>"
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(22, 24, 28)" if scheme == "dark" else "rgb(251, 249, 244)"
    )
    tab.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page_file: Path, browser: Browser, scheme: str) -> None:
    """With every answer's untouched twin unfolded; that axe finds something at all is shown in test_report_browser."""
    from axe_playwright_python.sync_playwright import Axe

    tab, _ = opened(browser, page_file, scheme=scheme)
    tab.evaluate("document.querySelectorAll('details').forEach(item => { item.open = true; })")
    assert [(found["id"], found["nodes"][0]["html"][:120]) for found in Axe().run(tab).response["violations"]] == []
    tab.context.close()


def test_filters_evidence_and_direction_of_writing(page_file: Path, browser: Browser) -> None:
    tab, _ = opened(browser, page_file)
    assert len(shown(tab)) == 7
    tab.select_option("#language", "ar")
    assert shown(tab) == ["baseline//ar/harmful/own/p1"]
    assert tab.locator("mark").inner_text() == "لا أستطيع"
    assert tab.locator("mark").get_attribute("title") == "inability"
    assert tab.evaluate("getComputedStyle(document.querySelector('.said')).direction") == "rtl"
    tab.select_option("#language", "")
    tab.check("#changed")
    assert shown(tab) == ["ablation/en/en/harmful/own/p1", "ablation/en/en/harmful/own/p2"]
    tab.locator("details", has_text="untouched model").first.locator("summary").click()
    assert "I cannot help." in tab.locator("#answers li").first.inner_text()
    tab.uncheck("#changed")
    tab.check("#uncertain")
    assert shown(tab) == ["baseline//en/harmful/own/p2"]
    tab.uncheck("#uncertain")
    tab.select_option("#condition", label="English ablated")
    tab.select_option("#verdict", "unscored")
    assert shown(tab) == ["ablation/en/en/harmful/own/p3"]
    assert "(empty)" in tab.locator("#answers").inner_text()
    tab.select_option("#verdict", "")
    tab.fill("#words", "HOLD it")
    assert shown(tab) == ["ablation/en/en/harmful/own/p2"]
    tab.context.close()


def test_marks_become_labels_that_agreement_reads(page_file: Path, browser: Browser, tmp_path: Path) -> None:
    tab, said = opened(browser, page_file)
    card = tab.locator("li", has_text="I cannot help either")
    card.first.get_by_role("button", name="Wrong verdict: it complied").click()
    for name in ("baseline//en/harmful/own/p1", "ablation/en/en/harmful/own/p1"):
        tab.locator(f'[data-id="{name}"]').get_by_role("button", name="Right verdict").click()
    assert tab.locator("#marks").inner_text() == "3"
    tab.reload()
    assert tab.locator("#marks").inner_text() == "3", "marks outlive a reload"
    with tab.expect_download() as waiting:
        tab.click("#download")
    labels = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(labels)
    assert labels.name == "labels.jsonl"
    assert "cannot" not in labels.read_text(), "labels hold no text of any answer"
    assert not [line for line in said if not line.startswith(("request: file:", "request: blob:"))]
    found = CliRunner().invoke(
        app,
        [
            "agreement",
            str(page_file.with_name("answers.jsonl")),
            "--labels",
            str(labels),
            "--format",
            "json",
            "--by",
            "lang",
        ],
    )
    assert found.exit_code == 0, (found.output, found.exception)
    overall = json.loads(found.stdout)["overall"]
    assert (overall["n"], overall["accuracy"]) == (3, pytest.approx(2 / 3))  # one of three marks says "wrong"
    tab.context.close()


def test_five_thousand_answers_open_as_one_page_of_cards(browser: Browser, tmp_path: Path) -> None:
    many = [Said(f"p{index}", f"Answer {index}. " * 40, "complied") for index in range(2500)]
    cells = {("baseline", "", "en"): many, ("ablation", "en", "en"): many}
    run = make_answers(tmp_path / "run", cells, prompts={said.prompt_id: f"Prompt {said.prompt_id}" for said in many})
    made = build_view(run.root, out=tmp_path / "out")
    assert (made.answers, made.limited) == (5000, None)
    tab, _ = opened(browser, made.page)
    assert len(shown(tab)) == 25
    assert "page 1 of 200" in tab.locator("nav").inner_text()
    assert tab.locator("#count").inner_text().startswith("5000 of 5000")
    tab.click("#forth")
    assert shown(tab)[0] == "baseline//en/harmful/own/p25"
    tab.select_option("#order", "random")
    assert len({name.split("/")[0] for name in shown(tab)}) == 2, "a random page holds both conditions"
    tab.context.close()
