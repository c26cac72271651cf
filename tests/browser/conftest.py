"""A Chromium, and an inspector to look at."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from sessionsight.inspector.server import RunningInspector, run_in_thread
from tests.examples.shops import CHROMIUM_ARGS

PATIENCE = 20_000  # milliseconds, on a busy machine
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        why = "there is no chromium on the path; `apt-get install chromium` brings it"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture
def inspector() -> Iterator[RunningInspector]:
    with run_in_thread() as inspector:
        yield inspector


class Window:
    """Opens pages, and keeps what their consoles complain about; a page that breaks its own policy does it there."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def open(self, path: str = "/", *, width: int = 1280, **options: Any) -> Page:
        context = self._browser.new_context(
            base_url=self._url, viewport={"width": width, "height": 800}, reduced_motion="reduce", **options
        )
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("requestfailed", self._failed)
        page.goto(path)
        return page

    def _failed(self, request: Any) -> None:
        if not request.url.startswith(f"{self._url}/"):
            self.complaints.append(f"asked for {request.url}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def window(browser: Browser, inspector: RunningInspector) -> Iterator[Window]:
    window = Window(browser, inspector.url)
    yield window
    window.close()
    assert window.complaints == []
