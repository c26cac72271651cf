"""A visit to an example shop is one visit in the inspector, with the browser's side and the server's."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PATIENCE
from tests.examples.shops import Demo, follow, press

ROWS = "rows => rows.map(row => ['.vendor', '.kind', '.open'].map(part => row.querySelector(part).textContent))"


@pytest.fixture
def demo() -> Iterator[Demo]:
    """One of the shops: that all of them send the same is what tests/examples/test_shops.py asserts."""
    demo = Demo("flask")
    yield demo
    demo.interrupt()


class Tabs:
    """Pages of one browser, side by side; a picture of each is taken when the test fails."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        self._folder = folder
        self.complaints: list[str] = []

    def open(self, url: str) -> Page:
        page = self._context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.goto(url)
        return page

    @contextmanager
    def photographed(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            for number, page in enumerate(self._context.pages):
                file = self._folder / f"tab-{number}.png"
                page.screenshot(path=file, full_page=True)
                error.add_note(f"{page.url} looked like {file}")
            raise
        finally:
            self._context.close()


@pytest.mark.browser
def test_a_visit_is_one_session_of_browser_and_server(browser: Browser, demo: Demo, tmp_path: Path) -> None:
    tabs = Tabs(browser, tmp_path)
    with tabs.photographed():
        inspector = tabs.open(f"{demo.inspector}sessions")
        shop = tabs.open(demo.url)
        sign_up_and_buy(shop)
        subscribe(tabs.open(demo.url))
        give_back(shop)
        the_visit_is_one_session(inspector)
        the_goals_add_up(inspector)
        assert tabs.complaints == []


def sign_up_and_buy(page: Page) -> None:
    look_at(page, "Dotted notebook")
    look_at(page, "Sign up to buy")
    page.get_by_label("E-mail address").fill("you@example.com")
    press(page, "Sign up")
    for product in ("Dotted notebook", "Stoneware mug"):
        follow(page, "Products")
        look_at(page, product)
        press(page, "Buy now")


def subscribe(page: Page) -> None:
    """In a window of its own."""
    look_at(page, "Membership")
    press(page, "Subscribe")


def give_back(page: Page) -> None:
    """The mug, which stands above the notebook."""
    with page.expect_navigation():
        page.get_by_role("button", name="Refund").first.click()
    page.get_by_text("Refunded").wait_for()


def look_at(page: Page, link: str) -> None:
    """Long enough for the page to have counted its goal, which says whose session it is."""
    with page.expect_response("**/v1/sdk/goals/increment"):
        follow(page, link)


def the_visit_is_one_session(page: Page) -> None:
    # Goals come last, and tie the sessions of their pages to the visit when they come.
    expect(page.locator(".sessions .row")).to_have_count(1)
    page.locator(".sessions .open").click()
    steps = page.locator("#steps .row")
    expect(steps.filter(has_text="shop-revenue")).to_have_count(3)
    for vendor in ("Signal", "Saytics", "Analyse.net"):
        expect(steps.filter(has_text="Order Refunded").filter(has_text=vendor)).to_have_count(1)
    expect(page.locator("h1")).to_have_text("user_1")
    told = [tuple(row) for row in steps.evaluate_all(ROWS)]
    vendors = ("SessionSight", "Signal", "Saytics", "Analyse.net")
    assert {row[:2] for row in told} == {(vendor, side) for vendor in vendors for side in ("browser", "server")}
    assert ("Saytics", "server", "Product Viewed") in told[:8], "from before the sign-up as well"
    assert {("Signal", "browser", "click"), ("Analyse.net", "server", "checkout_finished")} < set(told)
    expect(page.locator(".lane-name").filter(has_text=re.compile("^Window"))).to_have_count(2)

    # The webhook of the refund restores the session of the checkout, so that nothing is linked by time.
    expect(steps.filter(has_text="shop-revenue").filter(has_text="\N{MINUS SIGN}18.5")).to_have_count(1)
    expect(steps.filter(has_text="linked by time")).to_have_count(0)
    page.get_by_role("link", name="Sessions", exact=True).first.click()
    expect(page.locator(".sessions .row")).to_have_count(1)


def the_goals_add_up(page: Page) -> None:
    page.get_by_role("link", name="Goals", exact=True).click()
    expect(page.locator(".head")).to_contain_text("Revenue $61")
    totals = {"user-signups": "1", "monthly-revenue": "$49", "shop-revenue": "$12", "product-views": "3"}
    for goal, total in totals.items():
        tile = page.locator(".tile").filter(has=page.get_by_role("link", name=goal, exact=True))
        expect(tile.locator(".total")).to_have_text(total)
