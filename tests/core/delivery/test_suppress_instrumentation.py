"""Monitoring of the host does not see our calls; `test_transport.py` tests OpenTelemetry."""

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
    """Map each URL to the tracing headers that it received."""
    return {request.target: HEADERS & request.headers.keys() for request in requests}


@pytest.mark.parametrize("lifecycle", ["static", "stream"])
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_sentry_does_not_see_our_calls(library: str, lifecycle: str) -> None:
    with Server() as elsewhere, Server() as vendor:
        vendors_url = vendor.url.replace("127.0.0.1", "localhost")  # to tell the two apart
        done = subprocess.run(
            [sys.executable, "-m", "tests.core.delivery.sentry_host"],
            # Sentry imports eventlet where it is installed, whose DNS part fails to import next to trio.
            env={**os.environ, "EVENTLET_NO_GREENDNS": "yes"},
            input=f"{library} {lifecycle} {elsewhere.url} {vendors_url}",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    # Sentry is active: it sees the calls of the host.
    traced = {"sentry-trace", "baggage"}
    assert traces(elsewhere.requests) == {f"/by-{library}": traced, "/by-stdlib": traced}
    for span in (f"POST {elsewhere.url}/by-{library}", f"GET {elsewhere.url}/by-stdlib", f"127.0.0.1:{elsewhere.port}"):
        assert span in done.stdout
    assert "the end" in done.stdout
    # It sees neither our call, nor its connection, nor its name lookup.
    assert traces(vendor.requests) == {"/v1/batch": set()}
    assert "localhost" not in done.stdout


def test_an_incompatible_sentry_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", ModuleType("sentry_sdk"))

    with suppress_instrumentation():
        pass


def test_exceptions_are_propagated() -> None:
    with pytest.raises(ConnectionError, match="refused"), suppress_instrumentation():
        raise ConnectionError("refused")
