"""A request lives no longer than its response, and needs no garbage collector to die."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.adapters.django_site import ANALYTICS, CONDITIONAL, asgi, site, wsgi
from tests.adapters.recording import Recorder

# isort: split
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from sessionsight import Analytics, current


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Alive:
    """Counts the requests that have been served and not been freed."""

    def __init__(self) -> None:
        self._requests: set[weakref.ref[Any]] = set()
        self.most = 0
        self.analytics: Analytics | None = None

    def __len__(self) -> int:
        return len(self._requests)

    def seen(self, request: Any) -> None:
        self._requests.add(weakref.ref(request, self._requests.discard))
        self.most = max(self.most, len(self))
        self.analytics = request.analytics


def test_of_hundreds_of_requests_none_outlives_its_response(recorder: Recorder) -> None:
    alive = Alive()

    def captures(request: Any) -> HttpResponse:
        alive.seen(request)
        request.analytics.capture("seen", {"path": request.path})
        return HttpResponse("ok")

    def idle(request: Any) -> HttpResponse:
        alive.seen(request)
        return HttpResponse("ok")

    def streams(request: Any) -> StreamingHttpResponse:
        alive.seen(request)
        current().capture("seen")
        return StreamingHttpResponse(iter([b"o", b"k"]))

    with site(recorder, captures, idle, streams, middleware=[CONDITIONAL, ANALYTICS]), without_collector():
        handler = WSGIHandler()
        for number in range(600):
            wsgi(handler, ("/captures/", "/idle/", "/streams/")[number % 3])
        assert (len(alive), alive.most) == (0, 1)


async def test_nor_on_asgi(recorder: Recorder) -> None:
    alive = Alive()

    async def captures(request: Any) -> HttpResponse:
        alive.seen(request)
        request.analytics.capture("seen")
        return HttpResponse("ok")

    async def streams(request: Any) -> StreamingHttpResponse:
        alive.seen(request)
        return StreamingHttpResponse(chunks())

    async def chunks() -> AsyncIterator[bytes]:
        current().capture("seen")
        yield b"ok"

    with site(recorder, captures, streams):
        handler = ASGIHandler()
        for number in range(200):
            await asgi(handler, ("/captures/", "/streams/")[number % 2])
    gc.collect()
    assert len(alive) == 0


@pytest.mark.parametrize("debug_propagates", [False, True])
def test_a_request_whose_view_fails_is_freed_as_well(
    debug_propagates: bool, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("django.request"), "disabled", True)  # pytest keeps what is logged
    alive = Alive()

    def fails(request: Any) -> HttpResponse:
        alive.seen(request)
        raise LookupError

    with site(recorder, fails, DEBUG_PROPAGATE_EXCEPTIONS=debug_propagates):
        handler = WSGIHandler()
        for _ in range(10):
            if debug_propagates:
                with pytest.raises(LookupError):
                    wsgi(handler, "/fails/")
            else:
                assert wsgi(handler, "/fails/")[0] == "500 Internal Server Error"
    gc.collect()
    assert len(alive) == 0


def test_analytics_that_are_kept_keep_no_request(recorder: Recorder) -> None:
    alive = Alive()

    def idle(request: Any) -> HttpResponse:
        alive.seen(request)
        return HttpResponse("ok")

    with site(recorder, idle), without_collector():
        wsgi(WSGIHandler(), "/idle/")
        assert len(alive) == 0
    assert alive.analytics is not None
    assert alive.analytics.context.page.route == "idle/"


def test_a_hook_that_was_there_before_ours_is_called_and_stays(recorder: Recorder) -> None:

    def hooks(request: HttpRequest) -> HttpResponse:
        kept.append(request)
        return HttpResponse("ok")

    kept: list[HttpRequest] = []
    with site(recorder, hooks, middleware=[f"{__name__}.with_a_hook", ANALYTICS]):
        CLOSED.clear()
        wsgi(WSGIHandler(), "/hooks/")
    assert CLOSED == ["closed"]
    kept[0].close()
    assert CLOSED == ["closed", "closed"]


CLOSED: list[str] = []


def with_a_hook(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.close = lambda: CLOSED.append("closed")
        return get_response(request)

    return middleware


def test_closing_twice_is_harmless(recorder: Recorder) -> None:
    kept: list[HttpRequest] = []

    def keeps(request: Any) -> HttpResponse:
        request.analytics.capture("seen")
        kept.append(request)
        return HttpResponse("ok")

    with site(recorder, keeps):
        wsgi(WSGIHandler(), "/keeps/")
        kept[0].close()
    assert "close" not in vars(kept[0])
    assert recorder.names() == ["seen"]
