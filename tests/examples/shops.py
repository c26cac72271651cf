"""Starts the example shops, and clicks in them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from playwright.sync_api import BrowserContext, Page

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
    """A running `demo.py`: the shop's address, its log, and what has arrived at the inspector."""

    def __init__(self, shop: str, *options: str, **environ: str) -> None:
        command = [sys.executable, str(DEMO), "--shop", shop, *options]
        env = {**os.environ, **environ}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        try:
            self.url = self._address("Shop")
            self.inspector = self._address("Inspector")
            self.log = Path(self._address("Log"))
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise

    def records(self, side: str = "server") -> list[dict[str, Any]]:
        """Return the records of the shop's server, or of browsers, in their order."""
        arrived = json.loads(get(f"{self.inspector}api/records?limit=1000"))["records"]
        return [record for record in reversed(arrived) if record["side"] == side]

    def wait_for_records(self, number: int) -> list[dict[str, Any]]:
        """All that have arrived from the shop's server, as soon as there are so many of them."""
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
            if line.split()[:1] == [label]:
                return line.split()[-1]
        raise AssertionError("the demo ended before it gave its addresses")


def dropped(spool: Path) -> dict[str, dict[str, int]]:
    """Return how many records of each lane were dropped, by reason."""
    command = [sys.executable, "-m", "sessionsight", "spool", "stats", "--json", "--spool", str(spool)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return {name: lane["dropped"] for name, lane in json.loads(printed)["lanes"].items()}


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
