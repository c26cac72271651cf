from __future__ import annotations

from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from sessionsight import SessionSightIds, SignalIds, TrackingContext
from sessionsight.propagation.httpx import propagate, propagating_transport
from sessionsight.request.context import OPTED_OUT
from tests.core.box import Recorder

VISITOR = TrackingContext(sessionsight=SessionSightIds(session_id="session-1"))


@pytest.fixture(params=[httpx, httpx2], ids=lambda library: library.__name__)
def library(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


def test_several_cookie_headers_become_one(library: ModuleType, recorder: Recorder) -> None:
    request = library.Request("GET", "https://api.example.com", headers=[("Cookie", "a=1"), ("Cookie", "b=2")])
    with recorder.client.scope(VISITOR):
        propagate("api.example.com")(request)
    assert request.headers.get_list("cookie") == ["a=1; b=2; ss_sid=session-1"]


def test_an_international_host_is_listed_in_either_spelling(library: ModuleType, recorder: Recorder) -> None:
    for host in ("bücher.example", "xn--bcher-kva.example"):
        request = library.Request("GET", "https://bücher.example/neu")
        with recorder.client.scope(VISITOR):
            propagate(host)(request)
        assert request.headers["cookie"] == "ss_sid=session-1"


def test_a_request_that_is_sent_again_has_the_ids_of_its_visitor_only(library: ModuleType, recorder: Recorder) -> None:
    hook = propagate("api.example.com")
    request = library.Request("GET", "https://api.example.com", headers={"Cookie": "theme=dark"})
    before = dict(request.headers)
    for context in (VISITOR, TrackingContext(signal=SignalIds(session_id="signal-1")), OPTED_OUT, TrackingContext()):
        with recorder.client.scope(context):
            hook(request)
        fresh = library.Request("GET", "https://api.example.com", headers={"Cookie": "theme=dark"})
        with recorder.client.scope(context):
            propagate("api.example.com")(fresh)
        assert dict(request.headers) == dict(fresh.headers)
    hook(request)
    assert dict(request.headers) == before


def test_hooks_for_several_hosts_do_not_disturb_each_other(library: ModuleType, recorder: Recorder) -> None:
    request = library.Request("GET", "https://api.example.com")
    with recorder.client.scope(TrackingContext(signal=SignalIds(session_id="signal-1"))):
        for host in ("api.example.com", "other.example.com"):
            propagate(host)(request)
    assert request.headers["x-signal-session-id"] == "signal-1"


class Sent(list[Any]):
    """A transport's handler that keeps the requests."""

    def __init__(self, library: ModuleType) -> None:
        self._library = library

    def __call__(self, request: Any) -> Any:
        request.read()
        self.append(request)
        return self._library.Response(200)


def test_a_request_without_ids_is_not_copied_or_marked(library: ModuleType) -> None:
    sent = Sent(library)
    transport = propagating_transport(library.MockTransport(sent), "api.example.com")
    with library.Client(transport=transport) as client:
        response = client.get("https://api.example.com")
    assert sent[0] is response.request
    before = dict(response.request.extensions)
    propagate("api.example.com")(response.request)
    assert response.request.extensions == before


def test_a_body_is_sent_by_the_copy(library: ModuleType, recorder: Recorder) -> None:
    sent = Sent(library)
    transport = propagating_transport(library.MockTransport(sent), "api.example.com")
    with library.Client(transport=transport) as client, recorder.client.scope(VISITOR):
        client.post("https://api.example.com", content=b"order")
        client.post("https://api.example.com", content=iter([b"a", b"b"]))
    assert [request.content for request in sent] == [b"order", b"ab"]


async def test_a_transport_is_closed_with_its_client(library: ModuleType) -> None:
    closed: list[str] = []

    class Transport(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        def close(self) -> None:
            closed.append("close")

        async def aclose(self) -> None:
            closed.append("aclose")

    library.Client(transport=propagating_transport(Transport(), "api.example.com")).close()
    await library.AsyncClient(transport=propagating_transport(Transport(), "api.example.com")).aclose()
    assert closed == ["close", "aclose"]
