"""A process delivers records of dead processes from its first request on, even if that captures nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessionsight.capture.scope import RequestScope
from sessionsight.client import Client
from sessionsight.delivery.engine import Engine
from sessionsight.destinations import Signal
from sessionsight.settings import Settings
from sessionsight.testing import record
from tests.core.box import Visit
from tests.core.delivery.kit import event
from tests.core.delivery.spools import enter, sqlite_spool
from tests.support.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a spool with an event of a dead process."""
    path = tmp_path / "spool.db"
    other = sqlite_spool(path, "signal")
    enter(other, [event("left")], lane="signal")
    other.lane("signal").close()
    other.close()
    return path


@pytest.fixture
def client(server: Server, path: Path) -> Iterator[Client]:
    destination = Signal(api_key="key", endpoint=server.url)
    client = Client(Settings(destinations=(destination,), spool=f"sqlite:///{path}", trust_env=False))
    yield client
    client.shutdown(0)


def request(client: Client) -> RequestScope:
    return RequestScope(client, Visit())


@pytest.mark.parametrize("end", [RequestScope.end, RequestScope.end_before_last_byte, RequestScope.close])
def test_a_request_without_a_capture_starts_delivery_of_abandoned_records(
    end: Callable[[RequestScope], None], client: Client, server: Server
) -> None:
    end(request(client))

    [call] = server.wait_for(1)
    assert call.json["events"][0]["event"] == "left"


def test_only_the_first_request_starts_delivery(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[Engine] = []

    def start(engine: Engine) -> None:
        woken.append(engine)

    monkeypatch.setattr(Engine, "start", start)

    for _ in range(3):
        request(client).close()

    assert len(woken) == 1


def test_no_delivery_starts_while_a_test_records(client: Client) -> None:
    with record():
        request(client).end()

    assert client.needs_start


def test_a_memory_spool_does_not_start_delivery() -> None:
    client = Client(Settings(destinations=(Signal(api_key="key"),)))

    assert not client.needs_start
    client.shutdown(0)
