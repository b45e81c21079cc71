"""The report in Chromium, opened from a file as its reader opens it."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from lmadapt.report.page import write_report
from lmadapt.verdict.figures import EvaluationFigures
from tests.report_inputs import HOSTILE, make_figures, make_items, report_arguments

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
MAX_LOAD_SECONDS = 10.0  # generous, for a loaded machine; the time itself is printed
MAX_SEARCH_MILLISECONDS = 2000
TIMED_SEARCH = """(words) => {
    const search = document.getElementById("search"), began = performance.now();
    search.value = words;
    search.dispatchEvent(new Event("input"));
    document.body.offsetHeight; // laid out
    return performance.now() - began;
}"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium: neither chromium, chromium-browser nor google-chrome is on the PATH",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    unboxed = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*QUIET, "--disable-gpu", *unboxed]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HOLD with markup in every text that comes from data."""
    target = tmp_path_factory.mktemp("report") / "forgetting.html"
    figures = make_figures("HOLD")
    figures["changes"]["adapted_vs_reference"]["categories"]["general"][HOSTILE] = {
        **figures["changes"]["adapted_vs_reference"]["categories"]["general"].pop("capitals")
    }
    arguments = report_arguments()
    arguments["lineage"] |= {HOSTILE: HOSTILE}
    write_report(target, EvaluationFigures.model_validate(figures), make_items(240), **arguments)
    return target


class Opened:
    """A page with the report open, and all it said, asked for and popped up."""

    def __init__(self, browser: Browser, file: Path, **context: Any) -> None:
        self.page: Page = browser.new_context(**context).new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        began = time.perf_counter()
        self.page.goto(file.as_uri())
        self.seconds = time.perf_counter() - began

    def rows(self) -> Any:
        return self.page.locator("#rows > li")


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    opened = Opened(browser, report)
    yield opened
    opened.page.context.close()


def test_it_opens_without_an_error_or_a_request(opened: Opened, report: Path) -> None:
    for section in opened.page.locator("section").all():
        section.scroll_into_view_if_needed()
    assert opened.said == []
    assert opened.requests == [report.as_uri()]


def test_the_first_screen_shows_verdict_reason_and_what_to_do(opened: Opened) -> None:
    heading = opened.page.get_by_role("heading", level=1)
    expect(heading).to_have_text(re.compile("HOLD"))
    for text in ("Capitals became worse by 7.9 points", "Raise sft.replay_fraction"):
        expect(opened.page.get_by_text(text)).to_be_in_viewport()
    assert opened.page.title() == "HOLD: adapted (adapter over NF4) against base, bf16"


def test_search_finds_items_by_question_answer_note_and_id(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("all 245").check()
    for words, found in [
        ("ENTITY question 207:", 1),
        ("answer 211 c,", 1),
        ("zebras", 1),
        ("free/1", 1),
        ("lost quantisation", 61),
        ("no such words anywhere", 0),
    ]:
        page.get_by_label("Search").fill(words)
        expect(page.locator("#count")).to_have_text("1 item" if found == 1 else f"{found} items")
        expect(opened.rows()).to_have_count(min(found, 20))


def test_filters_narrow_the_list_and_more_is_shown_on_demand(opened: Opened) -> None:
    page = opened.page
    # Lost items come first: 60, one free answer, one with markup, one check.
    expect(page.locator("#count")).to_have_text("63 items")
    page.get_by_role("button", name="Show more").click()
    expect(opened.rows()).to_have_count(40)
    expect(opened.rows().nth(20)).to_be_focused()
    page.get_by_label("gained").check()
    page.get_by_label("Category", exact=True).select_option("general: regions")
    expect(page.locator("#count")).to_have_text("20 items")
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    first = opened.rows().first
    expect(first.locator(".tag").first).to_have_text("gained")
    expect(first.locator(".side").nth(0)).to_contain_text("✕ wrong")
    expect(first.locator(".side").nth(1)).to_contain_text("✓ right")


def test_the_keyboard_is_enough(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("Search").focus()
    page.keyboard.type("question")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Category", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="lost")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#count")).to_have_text("60 items")
    expect(opened.rows().first.locator(".tag").first).to_have_text("gained")
    page.get_by_text("Every test").focus()
    page.keyboard.press("Enter")
    expect(
        page.get_by_role(
            "table", name="Tests of the change from the reference to the adapted model"
        )
    ).to_be_visible()


def test_markup_in_data_is_shown_and_does_nothing(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("Search").fill("onerror=alert")
    expect(opened.rows()).to_have_count(1)
    assert opened.rows().locator(".prompt").text_content() == HOSTILE
    assert page.locator(".facts dd").last.text_content() == HOSTILE
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert opened.said == []


def test_dark_and_light_follow_the_system(browser: Browser, report: Path) -> None:
    def brightness(scheme: str) -> list[int]:
        """Of page and text, 0 (black) to 255."""
        page = Opened(browser, report, color_scheme=scheme).page
        colours = page.evaluate(
            "((style) => [style.backgroundColor, style.color])(getComputedStyle(document.body))"
        )
        page.context.close()
        return [sum(map(int, re.findall(r"\d+", colour)[:3])) // 3 for colour in colours]

    light, dark = brightness("light"), brightness("dark")
    assert light[0] > 240
    assert light[1] < 50
    assert dark[0] < 50
    assert dark[1] > 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, report: Path, scheme: str) -> None:
    page = Opened(browser, report, color_scheme=scheme).page
    page.evaluate(
        "document.querySelectorAll('details').forEach((element) => { element.open = true; })"
    )
    found = Axe().run(page).response["violations"]
    page.context.close()
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in serious] == []


def test_every_table_has_a_caption_and_every_section_a_name(opened: Opened) -> None:
    page = opened.page
    assert page.locator("table").count() == page.locator("table > caption").count() > 8
    for section in page.locator("section").all():
        assert page.locator(f"#{section.get_attribute('aria-labelledby')}").text_content()


def test_it_fits_a_phone(browser: Browser, report: Path) -> None:
    page = Opened(browser, report, viewport={"width": 360, "height": 740}).page
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.context.close()


def test_on_paper_everything_is_open_and_controls_are_gone(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(media="print")
    expect(page.locator("#search")).to_be_hidden()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_twenty_thousand_items_open_and_are_searched_quickly(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "large.html"
    figures = EvaluationFigures.model_validate(make_figures())
    write_report(target, figures, make_items(19_995), **report_arguments())
    megabytes = target.stat().st_size / 1e6
    opened = Opened(browser, target)
    opened.page.get_by_label("all 20,000").check()
    searched = opened.page.evaluate(TIMED_SEARCH, "question 19990:")
    expect(opened.page.locator("#count")).to_have_text("1 item")
    opened.page.context.close()
    with capsys.disabled():
        print(f"\n20,000 items, {megabytes:.1f} MB: open in {opened.seconds:.2f} s,", end=" ")
        print(f"searched in {searched:.0f} ms")
    assert megabytes < 10
    assert opened.seconds < MAX_LOAD_SECONDS
    assert searched < MAX_SEARCH_MILLISECONDS
