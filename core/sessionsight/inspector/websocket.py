"""SessionSight's websocket, through which a page sends its recording.

The vendor's script prefers it and falls back to `POST /v1/ingest`, whose bodies are its messages:
https://github.com/SessionSight/sdks (insights/src). A server without a websocket library gets a plain request here,
which gets the same response.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sessionsight.inspector.ingest import base, endpoints_at
from sessionsight.inspector.ingest.base import IngestResult
from sessionsight.inspector.model import WEBSOCKET, RecordedRequest, Vendor
from sessionsight.inspector.store import Store

__all__ = ["websocket_routes"]

_PATH = "/ws/ingest"
_HTTP_PATH = "/v1/ingest"
_INVALID_KEY = 4001  # of the vendor's own close codes
_UPGRADE_REQUIRED = (
    "this is a websocket; without one, recordings are sent to POST /v1/ingest. "
    "`pip install websockets` lets the inspector take both"
)


def websocket_routes(store: Store, keys: Mapping[Vendor, frozenset[str]]) -> list[BaseRoute]:
    """Return the websocket and the answer to those who call it without one.

    Args:
        store: Where each message is kept, as a request of its own.
        keys: The keys that a vendor takes, if not any.
    """
    taken = keys.get("sessionsight", frozenset())
    return [
        WebSocketRoute(_PATH, partial(_serve, store=store, keys=taken)),
        Route(_PATH, _upgrade_required),
    ]


async def _serve(socket: WebSocket, *, store: Store, keys: frozenset[str]) -> None:
    await socket.accept()
    try:
        key = socket.query_params.get("key", "")
        refusal = (await run_in_threadpool(_ask, key, keys, b"{}")).reply
        if refusal.status == 401:
            await socket.close(_INVALID_KEY, "invalid_api_key")
            return
        await socket.send_json({"type": "ready"})
        while True:
            message = await socket.receive_text()
            reply = await run_in_threadpool(_take, socket, message.encode(), store, key, keys)
            if "rotateVisitorToken" in reply:
                await socket.send_json({"type": "rotate_visitor_token", "visitorToken": reply["rotateVisitorToken"]})
    except (WebSocketDisconnect, KeyError):  # a message that is not text has no such member
        pass


def _take(socket: WebSocket, message: bytes, store: Store, key: str, keys: frozenset[str]) -> dict[str, object]:
    """Keep a message, and return what `POST /v1/ingest` would answer."""
    started = time.perf_counter()
    outcome = _ask(key, keys, message)
    received = RecordedRequest(
        received_at=time.time(),
        method=WEBSOCKET,
        path=_PATH,
        headers=[(name, value) for name, value in socket.headers.items() if name in {"origin", "user-agent"}],
        body=message[: base.MAX_KEPT],
        status=outcome.reply.status,
        reply=msgspec.json.encode(outcome.reply.json),
        latency_ms=(time.perf_counter() - started) * 1000,
        vendor="sessionsight",
    )
    store.add(received, outcome.records)
    answer = outcome.reply.json
    return answer if isinstance(answer, dict) else {}


def _ask(key: str, keys: frozenset[str], message: bytes) -> IngestResult:
    ingest, endpoints = endpoints_at(_HTTP_PATH)
    assert ingest is not None  # noqa: S101 - the path is SessionSight's
    request = base.Request(
        method="POST", path=_HTTP_PATH, headers={"x-api-key": key}, body=message, received_at=time.time(), keys=keys
    )
    return base.answer(ingest, endpoints[0], request)


def _upgrade_required(_request: Request) -> Response:
    return JSONResponse({"error": {"code": "UPGRADE_REQUIRED", "message": _UPGRADE_REQUIRED}}, 426)
