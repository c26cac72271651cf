"""A running inspector, and a client that talks to it."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from sessionsight.inspector.options import Options
from sessionsight.inspector.server import RunningInspector, run_in_thread
from sessionsight.inspector.store import Store

StartInspector = Callable[[Options], RunningInspector]


@pytest.fixture
def start_inspector() -> Iterator[StartInspector]:
    """Starts inspectors, and stops them after the test."""
    running: list[RunningInspector] = []

    def start(options: Options) -> RunningInspector:
        running.append(run_in_thread(options))
        return running[-1]

    yield start
    for inspector in running:
        inspector.stop()


@pytest.fixture(scope="session")
def _one_for_all() -> Iterator[RunningInspector]:
    with run_in_thread() as running:
        yield running


@pytest.fixture
def inspector(_one_for_all: RunningInspector, _client: httpx.Client) -> Iterator[RunningInspector]:
    """An empty inspector without faults and flags."""
    yield _one_for_all
    _one_for_all.store.clear()
    _one_for_all.store.flags = {}
    _client.put("/api/faults", json={}).raise_for_status()


@pytest.fixture(scope="session")
def _client(_one_for_all: RunningInspector) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=_one_for_all.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def http(_client: httpx.Client, inspector: RunningInspector) -> httpx.Client:
    """Talks to the inspector."""
    return _client


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as store:
        yield store
