"""The pytest plugin: suppresses delivery in tests, and provides fixtures for captured records.

pytest imports this module wherever sessionsight is installed, even for suites that do not use it. Therefore it imports
sessionsight only for tests that use it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sessionsight.testing import LocalInspector, Recorder

__all__ = [
    "analytics",
    "pytest_addoption",
    "pytest_configure",
    "pytest_runtest_protocol",
    "sessionsight_inspector",
]

_OPTION = "sessionsight_delivery"
_VARIABLE = "SESSIONSIGHT_TESTING"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option."""
    parser.addini(_OPTION, "deliver records of tests, as in production", type="bool", default=False)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Suppress delivery in this process and in those that tests start."""
    config.addinivalue_line("markers", f"{_OPTION}: deliver records of the test, as in production")
    if config.getini(_OPTION):
        return
    undo = ExitStack()
    imported = "sessionsight" in sys.modules
    # Read when sessionsight is imported, which may happen during a test.
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = "inherited"
        undo.callback(_end_suppression, imported)
    if imported:
        from sessionsight.testing import suppress_delivery

        undo.enter_context(suppress_delivery())
    config.add_cleanup(undo.close)


def _end_suppression(imported_before: bool) -> None:  # noqa: FBT001
    """Resume delivery in a process that continues after the tests."""
    os.environ.pop(_VARIABLE, None)
    if not imported_before and "sessionsight" in sys.modules:
        from sessionsight.test_mode import test_mode

        test_mode.end_inherited_suppression()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Deliver during a test that has the marker, including its fixtures."""
    if item.get_closest_marker(_OPTION) is None and not item.config.getini(_OPTION):
        yield
        return
    from sessionsight.testing import allow_delivery

    with allow_delivery():
        yield


@pytest.fixture
def analytics() -> Iterator[Recorder]:
    """Record what every client of the process captures during the test, as a `sessionsight.testing.Recorder`.

    Example:
        >>> def test_an_order_is_captured(client, analytics):
        ...     client.post("/orders")
        ...     analytics.assert_captured("order_processed", order_id="ord_1")
    """
    from sessionsight.testing import record

    with record() as recorder:
        yield recorder


@pytest.fixture
def sessionsight_inspector() -> Iterator[LocalInspector]:
    """Run an inspector on a free port, as a `sessionsight.testing.LocalInspector`, and deliver to it.

    Example:
        >>> def test_an_order_arrives(sessionsight_inspector):
        ...     client = make_app(destinations=sessionsight_inspector.destinations).test_client()
        ...     client.post("/orders")
        ...     sessionsight_inspector.wait(event="order_processed")
    """
    from sessionsight.testing import run_inspector

    with run_inspector() as inspector:
        yield inspector
