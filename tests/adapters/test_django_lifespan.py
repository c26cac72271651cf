"""A server that tells an ASGI app about its end waits until Django's records are delivered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator

from tests.adapters import django_site

# isort: split
from django.http import HttpResponse

from sessionsight_django.asgi import get_asgi_application
from tests.adapters.recording import Recorder


@pytest.fixture
def patient() -> Iterator[Recorder]:
    """Its records would wait an hour for company."""
    recorder = Recorder(linger=3600.0)
    yield recorder
    recorder.client.shutdown(0)


def visit(request: Any) -> HttpResponse:
    request.analytics.capture("visited", user_id="user_1")
    return HttpResponse("ok")


async def get(application: Any, path: str) -> bytes:
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    communicator: Any = ApplicationCommunicator(application, scope)  # type: ignore[no-untyped-call]
    await communicator.send_input({"type": "http.request"})
    assert (await communicator.receive_output())["status"] == 200
    body: bytes = (await communicator.receive_output())["body"]
    await communicator.wait()
    return body


async def live(application: Any) -> AsyncIterator[str]:
    """A server's whole life, as it tells an app about it; between start and shutdown the caller is asked."""
    communicator: Any = ApplicationCommunicator(application, {"type": "lifespan"})  # type: ignore[no-untyped-call]
    await communicator.send_input({"type": "lifespan.startup"})
    yield (await communicator.receive_output())["type"]
    await communicator.send_input({"type": "lifespan.shutdown"})
    yield (await communicator.receive_output())["type"]
    await communicator.wait()


async def test_at_shutdown_delivery_is_waited_for(patient: Recorder) -> None:
    with django_site.site(patient, visit):
        application = get_asgi_application()
        life = live(application)
        assert await anext(life) == "lifespan.startup.complete"

        assert await get(application, "/visit/") == b"ok"
        assert patient.handed_over == 1
        assert patient.arrived == []

        assert await anext(life) == "lifespan.shutdown.complete"
        assert patient.arrived == ["visited"]
        assert [message async for message in life] == []


async def test_a_fault_in_that_does_not_keep_the_server(
    patient: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(timeout: float | None = None) -> bool:
        raise RuntimeError

    with django_site.site(patient, visit):
        monkeypatch.setattr(patient.client, "aflush", fail)

        assert [message async for message in live(get_asgi_application())][1] == "lifespan.shutdown.complete"

    assert "waiting for delivery at shutdown failed" in caplog.text
