"""The ASGI package's classes for annotations, and the package without Starlette."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.testclient import TestClient

from sessionsight_asgi import AnalyticsMiddleware, AnalyticsRequest, AnalyticsWebSocket
from tests.adapters.recording import Recorder

WITHOUT_STARLETTE = """
import asyncio, sys
sys.modules["starlette"] = None
from sessionsight import Client, Settings
from sessionsight_asgi import AnalyticsMiddleware

seen = []

async def app(scope, receive, send):
    scope["analytics"].capture("seen")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def send(message):
    pass

scope = {"type": "http", "method": "GET", "path": "/orders", "query_string": b"", "headers": []}
client = Client(Settings(should_capture=lambda request: seen.append(request["path"]) or True))
asyncio.run(AnalyticsMiddleware(app, client)(scope, None, send))
print(seen)
"""


@pytest.mark.parametrize("kind", [AnalyticsRequest, AnalyticsWebSocket])
def test_the_classes_for_annotations_have_the_analytics(kind: type, recorder: Recorder) -> None:
    found = []

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        annotated = kind({**scope, "type": "http" if kind is AnalyticsRequest else "websocket"}, receive, send)
        found.append(annotated.analytics is scope["analytics"])

    with pytest.raises(AssertionError):  # there is no response
        TestClient(AnalyticsMiddleware(app, recorder.client)).get("/")
    assert found == [True]


@pytest.mark.processes
@pytest.mark.measured_processes
def test_without_starlette_the_settings_functions_get_the_scope() -> None:
    command = [sys.executable, "-c", WITHOUT_STARLETTE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "['/orders']\n", done.stderr
