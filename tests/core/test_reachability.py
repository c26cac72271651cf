"""Reachability checks with real servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sessionsight import Client, Settings
from sessionsight.diagnosis import Finding
from sessionsight.diagnosis.reachability import check_reachability
from tests.support.ports import free_port
from tests.support.server import Server, raw, reply, silence


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def client_for(url: str, **options: Any) -> Client:
    return Client(Settings.from_mapping({"destinations": {"signal": {"api_key": "k", "endpoint": url}}, **options}))


@pytest.mark.parametrize("status", [200, 301, 404, 401])
def test_any_response_counts_as_reachable(status: int, server: Server) -> None:
    server.will(reply(status, {"Location": "https://vendor.example/"}))
    assert check_reachability(client_for(server.url)) == [
        Finding(level="ok", subject="signal", message=f"{server.url} answers")
    ]


def test_neither_key_nor_record_is_sent(server: Server) -> None:
    check_reachability(client_for(server.url))
    [request] = server.requests
    assert (request.method, request.target, request.body) == ("GET", "/", b"")
    assert request.headers.keys() <= {"host", "user-agent", "accept-encoding"}


def test_a_server_error_is_a_warning(server: Server) -> None:
    server.will(reply(502))
    [finding] = check_reachability(client_for(server.url))
    assert (finding.level, finding.message) == ("warning", f"{server.url} answers, but with HTTP 502")


def test_a_refused_connection_is_an_error() -> None:
    [finding] = check_reachability(client_for(f"http://127.0.0.1:{free_port()}"))
    assert (finding.level, finding.subject) == ("error", "signal")
    assert "does not answer: ConnectError" in finding.message


def test_a_response_that_is_not_http_is_an_error(server: Server) -> None:
    server.will(raw(b"220 mail.example ESMTP\r\n"))
    [finding] = check_reachability(client_for(server.url))
    assert finding.level == "error"


def test_a_vendor_without_a_response_is_an_error_after_the_timeout(server: Server) -> None:
    server.will(silence())
    [finding] = check_reachability(client_for(server.url), 0.2)
    assert finding.level == "error"
    assert "does not answer: " in finding.message


def test_the_settings_proxy_is_used(server: Server) -> None:
    [finding] = check_reachability(client_for("http://127.0.0.1:9", proxy=server.url))
    assert finding.message == "http://127.0.0.1:9 answers"
    assert server.requests[0].target.startswith("http://127.0.0.1:9")


def test_unreadable_certificates_are_an_error(server: Server) -> None:
    [finding] = check_reachability(client_for(server.url, ca_bundle="/nowhere.pem"))
    assert finding.level == "error"
    assert "ca_bundle" in finding.message


def test_findings_are_in_the_order_of_the_settings(server: Server) -> None:
    settings = Settings.from_mapping(
        {
            "destinations": {
                "saytics": {"secret_key": "k", "api_url": server.url},
                "console": {},
                "analyse": {"public_key": "k", "host": server.url},
            }
        }
    )
    assert [(finding.subject, finding.level) for finding in check_reachability(Client(settings))] == [
        ("saytics", "ok"),
        ("analyse", "ok"),
    ]


def test_no_request_is_sent_if_analytics_are_disabled(server: Server) -> None:
    assert check_reachability(client_for(server.url, disabled=True)) == []
    assert not server.requests
