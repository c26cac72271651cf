"""A Chromium, in which each test is another visitor, and a Redis server."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.examples.shops import CHROMIUM_ARGS
from tests.support.redis_server import run_redis


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    executable = os.environ.get("CHROMIUM") or need("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        yield chromium
        chromium.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[BrowserContext]:
    """A visitor's browser with an open page."""
    context = chromium.new_context(viewport={"width": 380, "height": 800})
    context.new_page()
    yield context
    context.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis server of the test's own."""
    with run_redis(tmp_path) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        why = f"there is no {program} on the path; `apt-get install {program}` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found
