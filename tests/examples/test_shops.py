"""The example shops work as they are: each is started by `demo.py`, and visited without and with a real browser."""

import json
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.examples.shops import DEMO, SHOPS, Demo, cookie, follow, get, press, session
from tests.support.server import until

STORED = [("localStorage", "session"), ("sessionStorage", "window")]


@pytest.fixture(params=SHOPS)
def demo(request: pytest.FixtureRequest) -> Iterator[Demo]:
    demo = Demo(request.param)
    yield demo
    demo.interrupt()


def test_the_demo_checks_itself() -> None:
    # The other shops are checked by `make demo-check`, and visited by the tests below.
    command = [sys.executable, str(DEMO), "--shop", "flask", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("flask: arrived at analyse 12, saytics 12, sessionsight 4, signal 11")


@pytest.mark.browser
def test_all_that_a_visitor_does_lands_in_the_session_of_the_browser(browser: BrowserContext, demo: Demo) -> None:
    page = browser.pages[0]
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

    page.goto(demo.url)
    follow(page, "Dotted notebook")
    follow(page, "Sign up to buy")
    page.get_by_label("E-mail address").fill("you@example.com")
    sessions = {("user-signups", 1): session(browser)}
    press(page, "Sign up")

    follow(page, "Membership")
    sessions["monthly-revenue", 49] = session(browser)
    press(page, "Subscribe")
    user = page.locator("main dd").filter(has_text="user_").inner_text()

    follow(page, "Products")
    follow(page, "Dotted notebook")
    sessions["shop-revenue", 12] = session(browser)
    press(page, "Buy now")

    sessions["shop-revenue", -12] = sessions["shop-revenue", 12]  # the webhook of the refund knows the payment's
    press(page, "Refund")
    page.get_by_text("Refunded").wait_for()

    visitor = cookie(browser, "ss_vid")
    signal_ids = [page.evaluate(f"{storage}.getItem('signal_{name}_id')") for storage, name in STORED]
    records = demo.wait_for_records(4 + 11 + 12 + 12)  # goals; Signal, which knows no anonymous visitor; the other two
    assert complaints == []
    assert [record["errors"] for record in records if not record["accepted"]] == []

    goals = [record for record in records if record["vendor"] == "sessionsight"]
    assert {(goal["name"], goal["amount"]): goal["session_id"] for goal in goals} == sessions
    assert len(set(sessions.values())) == 3, "each page load is a session of its own"

    by_form = ["$identify", "signup_completed", "checkout_started", "checkout_finished", "$identify", "Product Viewed"]
    by_fetch = ["checkout_started", "Stock Reserved", "checkout_finished", "Receipt Sent", "Order Refunded"]
    at_signal = [record for record in records if record["vendor"] == "signal"]
    at_signal.sort(key=lambda record: float(record["occurred_at"]))  # a webhook's arrive before those of the checkout
    assert [event["name"] for event in at_signal] == by_form + by_fetch
    assert {event["user_id"] for event in at_signal} == {user}
    assert [[event["session_id"], event["window_id"]] for event in at_signal] == [[None, None]] * 6 + [signal_ids] * 5

    for vendor, name_of_identify in (("saytics", "identify"), ("analyse", "$identify")):
        arrived = [record for record in records if record["vendor"] == vendor]
        anonymous = [record for record in arrived if record["user_id"] is None]
        # Before the visitor signed up, and by a service that knows no users.
        assert Counter(record["name"] for record in anonymous) == {"Product Viewed": 1, "Stock Reserved": 1}
        assert {record["user_id"] for record in arrived if record not in anonymous} == {user}
        events = [record for record in arrived if record["name"] != name_of_identify]
        assert {record["visitor_id"] for record in events} == {visitor}
        expected = Counter(["Product Viewed", *by_form, *by_fetch]) - Counter(["$identify"] * 2)
        assert Counter(record["name"] for record in events) == expected

    for record in records + demo.records("browser"):
        sent = json.dumps(record["raw"])
        assert record["vendor"] == "sessionsight" or not any(id_ in sent for id_ in sessions.values())
        assert record["vendor"] == "signal" or not any(id_ in sent for id_ in signal_ids)


def browser_that_notes(tmp_path: Path) -> tuple[str, Path]:
    """A command for BROWSER, and the file that gets the addresses that it was to open."""
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {shlex.quote(str(opened))}\n')
    browser.chmod(0o755)
    return f"{shlex.quote(str(browser))} %s", opened


def test_ctrl_c_ends_the_demo_after_the_last_record_has_arrived(tmp_path: Path) -> None:
    # On uvicorn, which ends its requests first. A development server may be gone between a request's last byte
    # and its end, when records that wait in memory are handed over.
    browser, opened = browser_that_notes(tmp_path)
    demo = Demo("fastapi", BROWSER=browser)
    try:
        get(f"{demo.url}products/mug", {"Cookie": "ss_vid=4f9c5a36-6a4e-4d0e-8f0b-0f5f6f6c2a11"})
    finally:
        code, output = demo.interrupt()
    assert code == 0
    assert not opened.exists(), "it was not asked to open a browser"
    table = output.split("\n\n")[-1]
    heading, *rows = table.splitlines()
    assert heading.split() == ["time", "vendor", "record", "session", "who", "amount"]
    assert sorted(row.split()[1:] for row in rows) == [
        ["analyse", "Product", "Viewed", "4f9c5a36…"],
        ["saytics", "Product", "Viewed", "4f9c5a36…"],
    ]


def test_the_demo_opens_both_pages_if_it_is_asked_to(tmp_path: Path) -> None:
    browser, opened = browser_that_notes(tmp_path)
    demo = Demo("flask", "--open", BROWSER=browser)
    wanted = [demo.inspector, demo.url]
    until(lambda: opened.exists() and opened.read_text().split() == wanted, "both pages are opened")
    assert demo.interrupt()[0] == 0
    assert opened.read_text().split() == wanted
