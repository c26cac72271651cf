"""Erasing a user, in the queues and at the vendors, and the status of one record."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionsight import Client, InvalidEventError, Receipt, Settings
from sessionsight.delivery.erasure import Erasure
from sessionsight.delivery.stats import RecordStatus
from sessionsight.destinations import Console, Saytics, SessionSight
from sessionsight.test_mode import TestMode
from tests.core.delivery.kit import Vendor
from tests.support.ports import free_port
from tests.support.server import PATIENCE, Server, reply, reset

MakeClient = Callable[..., Client]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def make() -> Iterator[MakeClient]:
    clients: list[Client] = []

    def make_client(*destinations: Any, **options: Any) -> Client:
        clients.append(Client(Settings(destinations=destinations, trust_env=False, linger=0.0, **options)))
        return clients[-1]

    yield make_client
    for client in clients:
        client.shutdown(0)


def saytics(url: str, **options: Any) -> Saytics:
    return Saytics(secret_key="sk_live_12345", api_url=url, **options)


def goals(url: str) -> SessionSight:
    return SessionSight(secret_api_key="key", property_id="p", api_url=url)


def erased(client: Client, user_id: object = "user_1") -> dict[str, Erasure]:
    return {each.destination: each for each in client.erase(user_id, timeout=PATIENCE)}


# --- erasure at the vendor ---------------------------------------------------------------------------------


def test_the_user_is_deleted_at_vendors_that_have_a_request_for_it(server: Server, make: MakeClient) -> None:
    client = make(saytics(server.url), goals(server.url), Console())

    results = erased(client, "crm/user 1?ä")

    [request] = server.requests
    assert (request.method, request.target) == ("DELETE", "/v1/users/crm%2Fuser%201%3F%C3%A4")
    assert request.headers["authorization"] == "Bearer sk_live_12345"
    assert request.body == b""
    assert results["saytics"] == Erasure(destination="saytics", outcome="erased", status=200)
    assert results["sessionsight"].outcome == results["console"].outcome == "unsupported"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(404), ("not_found", 404, "HTTP 404")),
        (reply(401, body=b'{"error":{"message":"no key sk_live_12345"}}'), ("failed", 401, "no key ***")),
        (reply(429, {"Retry-After": "60"}), ("failed", 429, "HTTP 429")),
        (reply(302), ("failed", 302, "HTTP 302")),
        (reset(), ("failed", None, "OutcomeUnknown")),
    ],
)
def test_a_failure_is_reported_and_not_retried(
    answer: Any, expected: tuple[object, ...], server: Server, make: MakeClient
) -> None:
    server.will(answer)
    result = erased(make(saytics(server.url)))["saytics"]
    assert (result.outcome, result.status, result.message.partition(":")[0]) == expected
    assert len(server.requests) == 1


def test_a_vendor_that_cannot_be_reached_does_not_affect_another(server: Server, make: MakeClient) -> None:
    unreachable = saytics(f"http://127.0.0.1:{free_port()}", name="eu")
    results = erased(make(unreachable, saytics(server.url, name="us")))
    assert results["eu"].outcome == "failed"
    assert results["eu"].message.startswith("NotSent: ")
    assert results["us"].outcome == "erased"


def test_an_id_that_would_be_another_url_is_not_sent(server: Server, make: MakeClient) -> None:
    result = erased(make(saytics(server.url)), "..")["saytics"]
    assert result.outcome == "failed"
    assert "cannot be part of a URL" in result.message
    assert server.requests == []


def test_a_custom_destination_needs_no_such_method(server: Server, make: MakeClient) -> None:
    assert erased(make(Vendor(server.url)))["vendor"].outcome == "unsupported"


@pytest.mark.parametrize("user_id", ["", None, object()])
def test_an_invalid_user_id_is_an_error(user_id: object, server: Server, make: MakeClient) -> None:
    client = make(saytics(server.url), strict=False)
    with pytest.raises(InvalidEventError):
        client.erase(user_id)
    assert server.requests == []


async def test_erasure_does_not_block_the_event_loop(server: Server, make: MakeClient) -> None:
    [result] = await make(saytics(server.url)).aerase(17, timeout=PATIENCE)
    assert (result.outcome, server.requests[0].target) == ("erased", "/v1/users/17")


def test_nothing_is_sent_while_a_test_suppresses_delivery(
    server: Server, make: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionsight.delivery.control.test_mode", TestMode(suppressed=True))
    result = erased(make(saytics(server.url)))["saytics"]
    assert result.outcome == "failed"
    assert "nothing is sent under a test" in result.message
    assert server.requests == []


# --- erasure in the queues ---------------------------------------------------------------------------------


def test_records_in_the_queue_are_dropped_and_counted(server: Server, make: MakeClient, tmp_path: Path) -> None:
    server.will(reply(400, body=b'{"error":{"message":"no such event"}}'))
    client = make(saytics(server.url), spool=f"sqlite:///{tmp_path / 'spool.db'}")
    client.analytics.capture("seen", user_id="user_1")
    assert client.flush(PATIENCE)
    assert len(client.dead_letters()) == 1

    result = erased(client)["saytics"]

    assert (result.outcome, result.dropped) == ("erased", 1)
    lane = client.stats().lanes["saytics"]
    assert (lane.balanced, lane.dead, lane.dropped) == (True, 0, {"erased": 1})


def test_a_spool_that_cannot_be_written_is_reported_and_the_vendor_is_asked(
    server: Server, make: MakeClient, tmp_path: Path
) -> None:
    file = tmp_path / "spool.db"
    file.write_bytes(b"another program's data" * 100)
    client = make(saytics(server.url), goals(server.url), spool=f"sqlite:///{file}")

    results = erased(client)

    assert results["saytics"].outcome == results["sessionsight"].outcome == "failed"
    assert results["saytics"].message.startswith("records in the spool could not be dropped: ")
    assert "; the vendor documents no such request" in results["sessionsight"].message
    assert [request.method for request in server.requests] == ["DELETE"]


# --- the status of a record --------------------------------------------------------------------------------


def test_the_status_of_a_receipt_is_that_of_its_destinations(server: Server, make: MakeClient, tmp_path: Path) -> None:
    server.will(reply(400, body=b'{"error":{"message":"no such event"}}'))
    client = make(saytics(server.url), goals(server.url), spool=f"sqlite:///{tmp_path / 'spool.db'}")
    receipt = client.analytics.capture("seen", user_id="user_1")
    assert client.flush(PATIENCE)
    assert client.status(receipt) == {"saytics": RecordStatus(state="dead", reason="refused", message="no such event")}
    delivered = client.analytics.capture("seen", user_id="user_1")
    assert client.flush(PATIENCE)
    assert client.status(delivered) == {"saytics": RecordStatus(state="not_found")}
    nowhere = client.analytics.capture("seen", user_id="user_1", destinations=["sessionsight"])
    assert client.status(nowhere) == {}


def test_another_process_with_the_same_spool_knows_the_status(server: Server, make: MakeClient, tmp_path: Path) -> None:
    spool = f"sqlite:///{tmp_path / 'spool.db'}"
    server.answer = reply(503, {"Retry-After": "300"})
    first = make(saytics(server.url), spool=spool)
    receipt = first.analytics.capture("seen", user_id="user_1")
    server.wait_for(1)
    assert first.status(receipt)["saytics"].state == "pending"
    first.shutdown(0)
    second = make(saytics(server.url), spool=spool)
    assert second.status(receipt)["saytics"].state == "pending"


def test_a_record_in_flight_from_memory_is_unknown(server: Server, make: MakeClient) -> None:
    server.answer = reply(503, {"Retry-After": "300"})
    client = make(saytics(server.url))
    receipt = client.analytics.capture("seen", user_id="user_1")
    server.wait_for(1)
    assert client.status(receipt)["saytics"].state == "unknown"


def test_a_spool_that_cannot_be_read_leaves_the_status_unknown(make: MakeClient, tmp_path: Path) -> None:
    file = tmp_path / "spool.db"
    file.write_bytes(b"another program's data" * 100)
    client = make(saytics(f"http://127.0.0.1:{free_port()}"), spool=f"sqlite:///{file}")
    receipt = client.analytics.goals.increment("signups", session_id="s1", destinations=["saytics"])
    assert client.status(receipt) == {}
    receipt = client.analytics.capture("seen", user_id="user_1")
    status = client.status(receipt)["saytics"]
    assert status.state in ("pending", "unknown")  # in memory, until the lane claims it
    unknown = Receipt(client.analytics.capture("seen")._record)
    assert client.status(unknown)["saytics"].state == "unknown"


def test_a_refused_call_has_no_status(server: Server, make: MakeClient) -> None:
    client = make(saytics(server.url), strict=False, consent=lambda data: False)
    assert client.status(client.analytics.capture("")) == {}
    assert client.status(client.for_request("ss_sid=1").capture("seen", user_id="user_1")) == {}
