"""Monitoring that watches the host does not see our calls; OpenTelemetry's part is in `test_transport.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import pytest

from sessionsight.delivery.suppress_instrumentation import suppress_instrumentation
from tests.support.server import Request, Server

pytestmark = pytest.mark.processes

HEADERS = {"sentry-trace", "baggage", "traceparent", "tracestate"}


def traces(requests: list[Request]) -> dict[str, set[str]]:
    """Addresses to the headers of tracing that came there."""
    return {request.target: HEADERS & request.headers.keys() for request in requests}


@pytest.mark.parametrize("lifecycle", ["static", "stream"])
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_sentry_sees_nothing_of_our_calls(library: str, lifecycle: str) -> None:
    with Server() as elsewhere, Server() as vendor:
        vendors_url = vendor.url.replace("127.0.0.1", "localhost")  # so that the two are told apart
        done = subprocess.run(
            [sys.executable, "-m", "tests.core.delivery.sentry_host"],
            # Sentry imports eventlet where it is installed, whose DNS part fails to import beside trio.
            env={**os.environ, "EVENTLET_NO_GREENDNS": "yes"},
            input=f"{library} {lifecycle} {elsewhere.url} {vendors_url}",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    # Sentry is at work: it sees what the host calls.
    traced = {"sentry-trace", "baggage"}
    assert traces(elsewhere.requests) == {f"/by-{library}": traced, "/by-stdlib": traced}
    for span in (f"POST {elsewhere.url}/by-{library}", f"GET {elsewhere.url}/by-stdlib", f"127.0.0.1:{elsewhere.port}"):
        assert span in done.stdout
    assert "the end" in done.stdout
    # It sees neither a call of ours, nor its connection, nor the lookup of its name.
    assert traces(vendor.requests) == {"/v1/batch": set()}
    assert "localhost" not in done.stdout


def test_a_sentry_that_is_not_as_we_know_it_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", ModuleType("sentry_sdk"))

    with suppress_instrumentation():
        pass


def test_errors_come_through() -> None:
    with pytest.raises(ConnectionError, match="refused"), suppress_instrumentation():
        raise ConnectionError("refused")
