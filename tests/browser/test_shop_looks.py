"""How the example shop's pages look, as far as it can be measured; the three shops share them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import Window
from tests.browser.looking import faint, misplaced, small, width_of
from tests.examples.shops import Demo, press

pytestmark = pytest.mark.browser

LONG = f"{'somebody-' * 7}@{'x' * 60}.example.com"


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    demo = Demo("flask")
    yield demo
    demo.interrupt()


@pytest.fixture
def window(browser: Browser, demo: Demo) -> Iterator[Window]:
    window = Window(browser, demo.url.rstrip("/"))
    yield window
    window.close()


def look_at(page: Page, path: str) -> None:
    page.goto(path)
    page.locator("summary").click()
    wide, there = width_of(page)
    assert wide <= there, path
    assert faint(page) == [], path
    assert misplaced(page) == [], path
    if there < 640:
        assert small(page) == [], path


@pytest.mark.parametrize("width", [380, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_legible_and_fits(window: Window, scheme: str, width: int) -> None:
    page = window.open(width=width, color_scheme=scheme)
    for path in ("/", "/products/mug", "/membership", "/signup"):
        look_at(page, path)
    page.get_by_label("E-mail address").fill(LONG)
    press(page, "Sign up")
    look_at(page, "/account")
    page.goto("/products/lamp")
    press(page, "Buy now")
    for path in ("/account", "/membership"):
        look_at(page, path)


def test_a_products_card_shows_that_it_is_focused(window: Window) -> None:
    page = window.open()
    page.get_by_role("link", name="Desk lamp").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    card = page.locator(".product").filter(has_text="Desk lamp")
    assert card.evaluate("card => getComputedStyle(card).outlineStyle") == "solid"
