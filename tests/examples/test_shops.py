"""The example shops work as they are: each is started by `demo.py`, and visited without and with a real browser."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

DEMO = Path(__file__).parents[2] / "example_projects" / "demo.py"
SHOPS = ["django", "flask", "fastapi"]
CHROMIUM_ARGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Demo:
    """A running `demo.py`: the shop's address, and what has arrived at the inspector."""

    def __init__(self, shop: str) -> None:
        self._process = subprocess.Popen([sys.executable, str(DEMO), "--shop", shop], stdout=subprocess.PIPE, text=True)
        try:
            self.url = self._address("Example shop on")
            self._inspector = self._address("What it sends")
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise

    def records(self) -> list[dict[str, Any]]:
        """What has arrived, in its order."""
        return list(reversed(json.loads(get(f"{self._inspector}api/records?limit=1000"))["records"]))

    def wait_for_records(self, number: int) -> list[dict[str, Any]]:
        """All that have arrived, as soon as there are so many of them."""
        deadline = time.monotonic() + 15
        while len(records := self.records()) < number and time.monotonic() < deadline:
            time.sleep(0.02)
        return records

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C: the exit code, and what was printed."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            output = stdout.read()
        return self._process.wait(timeout=30), output

    def _address(self, label: str) -> str:
        # The demo ends by itself when the shop does not start, so this loop ends in any case.
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(label):
                return line.split()[-1]
        raise AssertionError("the demo ended before it gave its addresses")


@pytest.fixture(params=SHOPS)
def demo(request: pytest.FixtureRequest) -> Iterator[Demo]:
    demo = Demo(request.param)
    yield demo
    demo.interrupt()


@pytest.fixture
def chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        why = "there is no chromium on the path; `apt-get install chromium` brings it"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium, args=CHROMIUM_ARGS, viewport={"width": 380, "height": 800}
        )
        yield context
        context.close()


@pytest.mark.parametrize("shop", SHOPS)
def test_the_demo_checks_itself(shop: str) -> None:
    command = [sys.executable, str(DEMO), "--shop", shop, "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{shop}: arrived at analyse 10, saytics 10, sessionsight 4, signal 9")


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
    user = page.locator("dd").filter(has_text="user_").inner_text()

    follow(page, "Products")
    follow(page, "Dotted notebook")
    sessions["shop-revenue", 12] = session(browser)
    press(page, "Buy now")

    sessions["shop-revenue", -12] = session(browser)
    press(page, "Refund")
    page.get_by_text("Refunded").wait_for()

    visitor = cookie(browser, "ss_vid")
    signal_ids = [page.evaluate(f"sessionStorage.getItem('signal_{name}_id')") for name in ("session", "window")]
    records = demo.wait_for_records(4 + 9 + 10 + 10)  # goals; Signal, which knows no anonymous visitor; the other two
    assert complaints == []
    assert [record["rules"] for record in records if not record["accepted"]] == []

    goals = [record for record in records if record["vendor"] == "sessionsight"]
    assert {(goal["name"], goal["amount"]): goal["session_id"] for goal in goals} == sessions
    assert len(set(sessions.values())) == 4, "each page load is a session of its own"

    by_form = ["$identify", "signup_completed", "checkout_started", "checkout_finished", "$identify", "Product Viewed"]
    by_fetch = ["checkout_started", "checkout_finished", "Order Refunded"]
    at_signal = [record for record in records if record["vendor"] == "signal"]
    assert [event["name"] for event in at_signal] == by_form + by_fetch
    assert {event["user_id"] for event in at_signal} == {user}
    assert [[event["session_id"], event["window_id"]] for event in at_signal] == [[None, None]] * 6 + [signal_ids] * 3

    for vendor, name_of_identify in (("saytics", "identify"), ("analyse", "$identify")):
        arrived = [record for record in records if record["vendor"] == vendor]
        [before_sign_up] = [record for record in arrived if record["user_id"] is None]
        assert (before_sign_up["name"], before_sign_up["visitor_id"]) == ("Product Viewed", visitor)
        later = [record for record in arrived if record is not before_sign_up]
        assert {record["user_id"] for record in later} == {user}
        events = [record for record in later if record["name"] != name_of_identify]
        assert {record["visitor_id"] for record in events} == {visitor}
        assert Counter(record["name"] for record in events) == Counter(by_form + by_fetch) - Counter(["$identify"] * 2)

    for record in records:
        sent = json.dumps(record["raw"])
        assert record["vendor"] == "sessionsight" or not any(id_ in sent for id_ in sessions.values())
        assert record["vendor"] == "signal" or not any(id_ in sent for id_ in signal_ids)


def test_ctrl_c_ends_the_demo_after_the_last_record_has_arrived() -> None:
    # On uvicorn, which ends its requests first. A development server may be gone between a request's last byte
    # and its end, when records that wait in memory are handed over.
    demo = Demo("fastapi")
    try:
        get(f"{demo.url}products/mug", {"Cookie": "ss_vid=4f9c5a36-6a4e-4d0e-8f0b-0f5f6f6c2a11"})
    finally:
        code, output = demo.interrupt()
    assert code == 0
    _, _, table = output.partition("\n\n")
    heading, *rows = table.splitlines()
    assert heading.split() == ["time", "vendor", "record", "session", "who", "amount"]
    assert sorted(row.split()[1:] for row in rows) == [
        ["analyse", "Product", "Viewed", "4f9c5a36…"],
        ["saytics", "Product", "Viewed", "4f9c5a36…"],
    ]


def get(url: str, headers: dict[str, str] | None = None) -> bytes:
    opener = build_opener(ProxyHandler({}))  # what is on this machine needs no proxy
    with opener.open(Request(url, headers=headers or {}), timeout=10) as response:
        return bytes(response.read())


def follow(page: Page, link: str) -> None:
    page.get_by_role("link", name=link, exact=True).click()
    settled(page)


def press(page: Page, button: str) -> None:
    """Press a button that leads to another page, be it by a form or by a script."""
    with page.expect_navigation():
        page.get_by_role("button", name=button, exact=True).click()
    settled(page)


def settled(page: Page) -> None:
    page.wait_for_load_state()
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1], f"{page.url} is wider than a phone"


def session(browser: BrowserContext) -> str:
    return cookie(browser, "ss_sid")


def cookie(browser: BrowserContext, name: str) -> str:
    [value] = [found["value"] for found in browser.cookies() if found.get("name") == name]
    return value
