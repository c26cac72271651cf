"""A hostile vendor, or somebody between it and us: keys go to nobody else, and nothing that is sent back does harm."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from sessionsight.delivery.httpx_transport import HttpxTransport
from sessionsight.delivery.transport import NotSent, OutcomeUnknown, TimeLimits, TransportError
from sessionsight.destinations.base import VendorRequest
from tests.chaos.names import known
from tests.chaos.vendor import Vendor
from tests.core.delivery.kit import deaths, deliver, goal, make_lane, offer, singles
from tests.support.server import PATIENCE, Server, drip, raw, reply, until

AMPLE = TimeLimits(connect=PATIENCE, read=PATIENCE, total=PATIENCE)
KEY = "sk_very_secret"


def call(url: str) -> VendorRequest:
    return VendorRequest(url=f"{url}/take", headers={"Authorization": f"Bearer {KEY}"}, body=b"{}", entries=())


def error_of(transport: HttpxTransport, url: str) -> TransportError:
    with pytest.raises(TransportError) as caught:
        transport.send(call(url), AMPLE)
    return caught.value


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> Iterator[HttpxTransport]:
    """A transport that trusts the authority."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    transport = HttpxTransport(ca_bundle=str(tmp_path / "authority.pem"), trust_env=False)
    yield transport
    transport.close()


def serving(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


# --- who it is -------------------------------------------------------------------------------------


def test_a_trusted_certificate_for_the_right_name_is_taken(authority: trustme.CA, trusting: HttpxTransport) -> None:
    with Server(tls=serving(authority, "127.0.0.1")) as server:
        assert trusting.send(call(server.url), AMPLE).status == 200


@pytest.mark.parametrize("name", ["vendor.invalid", "127.0.0.2", "*.0.0.1"])
def test_a_trusted_certificate_for_another_name_is_not(
    authority: trustme.CA, trusting: HttpxTransport, name: str
) -> None:
    with Server(tls=serving(authority, name)) as server:
        error = error_of(trusting, server.url)

        assert isinstance(error, NotSent)
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert server.requests == []


def test_a_certificate_that_has_run_out_is_not_taken(authority: trustme.CA, trusting: HttpxTransport) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with Server(tls=serving(authority, "127.0.0.1", not_after=yesterday)) as server:
        error = error_of(trusting, server.url)

        assert isinstance(error, NotSent)
        assert "expired" in str(error)
        assert server.requests == []


def test_an_address_that_a_lying_name_server_gives_leads_to_no_call(
    authority: trustme.CA, trusting: HttpxTransport
) -> None:
    with Vendor("liar", seed=0, host="vendor.invalid", authority=trustme.CA()) as liar, known(liar):
        assert isinstance(error_of(trusting, liar.url), NotSent)
        assert liar.diary == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_an_old_tls_is_not_spoken(authority: trustme.CA, trusting: HttpxTransport, version: ssl.TLSVersion) -> None:
    context = serving(authority, "127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    with Server(tls=context) as server:
        assert isinstance(error_of(trusting, server.url), NotSent)
        assert server.requests == []


# --- what it sends back ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_no_key_along_and_loses_no_record(server: Server, status: int) -> None:
    with Server() as thief:
        server.will(reply(status, {"Location": f"{thief.url}/take"}))
        lane = make_lane(singles(server.url, key=KEY))

        offer(lane, [goal("paid")])

        assert deliver(lane) == {"captured": 1, "delivered": 1}
        assert thief.connections == 0
        assert [request.target for request in server.requests] == ["/take", "/take"]
        lane.close()


def test_a_compressed_reply_is_not_unpacked(server: Server) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    server.answer = reply(400, {"Content-Encoding": "gzip"}, bomb)
    transport = HttpxTransport(trust_env=False, max_response_bytes=10_000)

    answer = transport.send(call(server.url), AMPLE)

    assert answer.status == 400
    assert answer.body == bomb[:10_000]
    transport.close()


@pytest.mark.parametrize(
    "head",
    [b"X-Long: " + b"a" * 5_000_000 + b"\r\n\r\n", b"X-Short: a\r\n" * 500_000],
    ids=["one that is long", "many that are short"],
)
def test_headers_without_end_are_given_up(server: Server, head: bytes) -> None:
    server.answer = raw(b"HTTP/1.1 200 OK\r\n" + head)
    transport = HttpxTransport(trust_env=False)

    assert isinstance(error_of(transport, server.url), OutcomeUnknown)
    transport.close()


def test_interim_answers_without_end_are_given_up(server: Server) -> None:
    server.will(drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"))
    lane = make_lane(singles(server.url), read_timeout=0.2, total_timeout=0.3)

    offer(lane, [goal("paid")])

    assert deliver(lane) == {"captured": 1, "dead": 1}
    assert deaths(lane.dead_letters()) == {"paid": "unknown"}
    offer(lane, [goal("paid again")])
    assert deliver(lane)["delivered"] == 1
    lane.close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": ' * 100_000,
        b"[" * 60_000 + b"]" * 60_000,
        b'{"error": {"message": "' + b"A" * 60_000 + b'"}}',
        b'{"error": {"message": "one\\nERROR forged line\\u2028two\\u001b[2J"}}',
        b"\xff\xfe\x00",
    ],
    ids=["nested objects", "nested lists", "a long message", "control characters", "no text"],
)
def test_what_a_vendor_says_is_bounded_and_stays_one_line(
    server: Server, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = reply(400, body=body)
    lane = make_lane(singles(server.url))

    offer(lane, [goal("paid")])

    assert deliver(lane) == {"captured": 1, "dead": 1}
    [letter] = lane.dead_letters()
    assert 0 < len(letter.message) <= 500
    until(lambda: caplog.records, "the operator is told")
    lines = [record.getMessage() for record in caplog.records if record.name == "sessionsight"]
    assert lines
    assert all(line.isprintable() and len(line) < 1_000 for line in lines)
    lane.close()
