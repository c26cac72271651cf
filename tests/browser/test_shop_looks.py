"""How the example shop's pages look, as far as it can be measured; the three shops share them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import Window
from tests.browser.looking import WIDTHS, faint_by_scheme, misplaced, small, width_of
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
    assert misplaced(page) == [], path
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        wide, there = width_of(page)
        assert wide <= there, (path, width)
        assert faint_by_scheme(page) == {"light": [], "dark": []}, (path, width)
        if width < 640:
            assert small(page) == [], path


def test_every_page_is_legible_and_fits(window: Window) -> None:
    page = window.open()
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
