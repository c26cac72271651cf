"""One purchase, wherever its work goes: page, checkout, webhook, job and another service are one visit."""

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.examples.shops import SHOPS, Demo, dropped, follow, press, session

VENDORS = ["sessionsight", "signal", "saytics", "analyse"]
SIGN_UP = 7  # a goal, and two records for each of the other three vendors
BY_SERVERS = ["checkout_started", "Stock Reserved", "checkout_finished", "Receipt Sent"]


@pytest.mark.browser
@pytest.mark.processes
@pytest.mark.parametrize("shop", SHOPS)
def test_all_work_of_a_purchase_is_in_one_timeline_with_its_revenue_once(
    shop: str, browser: BrowserContext, broker: str, tmp_path: Path
) -> None:
    demo = Demo(shop, CELERY_BROKER_URL=broker, SHOP_DATA=str(tmp_path))
    try:
        page = browser.pages[0]
        page.goto(f"{demo.url}signup")
        page.get_by_label("E-mail address").fill("you@example.com")
        press(page, "Sign up")
        follow(page, "Dotted notebook")
        paid_in = session(browser)
        press(page, "Buy now")  # returns after the provider has sent its webhook three times
        visit = page.evaluate("localStorage.getItem('signal_session_id')")
        # Also the product's page, each record at three vendors, and the goal.
        records = demo.wait_for_records(SIGN_UP + 3 * (1 + len(BY_SERVERS)) + 1)

        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(f"{demo.inspector}sessions/{visit}")
        timeline = page.locator("#steps > li")
        at_signal = timeline.filter(has_text="Signal").locator("a.open").all_inner_texts()
        revenue = timeline.filter(has_text="shop-revenue").all_inner_texts()
        log = demo.log.read_text("utf-8")
    finally:
        demo.interrupt()

    clicked = len(at_signal) - 1 - at_signal[::-1].index("click")
    assert [name for name in at_signal[clicked:] if name != "$pageview"] == ["click", *BY_SERVERS]
    assert len(revenue) == 1
    goals = [(goal["session_id"], goal["amount"]) for goal in records if goal["name"] == "shop-revenue"]
    assert goals == [(paid_in, 12)]
    assert dropped(tmp_path / "analytics.db") == {vendor: {"duplicate": 2} for vendor in VENDORS}
    assert "Task shop_common.jobs.send_receipt" in log, "a worker has run the job"
