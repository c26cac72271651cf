"""Fixtures of every test: no real network, no keys from outside, asyncio unless a test says trio."""

import gc
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.clients import closed_at_the_end
from tests.support.suites import WITHOUT_TRIO

# Tests that need more examples or fewer take a multiple of these numbers: tests/support/examples.py.
hypothesis.settings.register_profile("dev", deadline=None, max_examples=30)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

# Tests trust their own certificates only, and reading those of the system takes 50 ms in every process and in every
# connection to MariaDB.
AUTHORITY = str(Path(__file__).parent / "support" / "authority.pem")
os.environ["SSL_CERT_FILE"] = AUTHORITY

# No test makes PostgreSQL crash, so that nothing needs to be on the disk.
os.environ["PGOPTIONS"] = "-c synchronous_commit=off"

OUR_VARIABLES = ("SESSIONSIGHT_", "SIGNAL_", "SAYTICS_", "ANALYSE_")


def pytest_sessionstart() -> None:
    """Collect no garbage while tests are collected: that takes a third of the time, and finds hardly any."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep the collected tests out of garbage collections, which would otherwise visit half a million objects each.

    The garbage is kept too: there is hardly any, and to find it takes a second.
    """
    gc.freeze()
    gc.enable()


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of `async def` tests; override it where trio matters too."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _root_logger_of_pytest() -> Iterator[None]:
    """Reset the root logger, which workers of Celery and apps of Litestar configure, for tests that look at the log."""
    _reset_root_logger()
    yield
    _reset_root_logger()


def _reset_root_logger() -> None:
    root = logging.getLogger()
    if root.level != logging.WARNING:  # to set it visits all loggers, of which there are thousands
        root.setLevel(logging.WARNING)
    root.handlers = [handler for handler in root.handlers if type(handler).__module__ == "_pytest.logging"]


@pytest.fixture(autouse=True)
def _no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own keys in the environment configure nothing."""
    for name in os.environ:
        if name.startswith(OUR_VARIABLES):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _measured_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage, which doubles what a short process costs, is measured in those of marked tests only."""
    if request.node.get_closest_marker("measured_processes") is None:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(autouse=True)
def _no_client_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Discard records that a test's clients have not delivered by its end, before its patches are undone."""
    with closed_at_the_end():
        yield


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """A connection that would leave this machine fails the test that opens it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_trio_in_processes() -> Iterator[None]:
    """Processes that tests start do not find trio."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", WITHOUT_TRIO, prepend=os.pathsep)
        yield


@pytest.fixture(autouse=True, scope="session")
def _few_authorities() -> Iterator[None]:
    """HTTP clients that ignore the environment read no long list of certificates either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("certifi.where", lambda: AUTHORITY)
        yield


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            host = str(address[0])
            if not host.startswith("127.") and host not in {"localhost", "::1"}:
                pytest.fail(f"a test tried to connect to {host}; only this machine is allowed")
        return connect(self, address)

    return guarded
