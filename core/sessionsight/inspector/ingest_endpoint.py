"""The vendors' endpoints over HTTP: reads a request, lets faults happen, asks the vendor's protocol, keeps it all."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from functools import partial

import anyio
import msgspec
from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from sessionsight.inspector.fault_injection import NO_FAULT, InjectedFault, Injector
from sessionsight.inspector.filters import Filter
from sessionsight.inspector.ingest import base, endpoints_at
from sessionsight.inspector.ingest.base import Endpoint, Ingest, IngestResult, Reply, RequestRejected
from sessionsight.inspector.model import InspectedRecord, RecordedRequest, Vendor
from sessionsight.inspector.store import Store

__all__ = ["IngestEndpoint"]

_KNOWN = 1000  # most records of a user that are read
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "x-api-key", "cookie"})
_METHODS = "GET, POST, DELETE, OPTIONS"


class IngestEndpoint:
    """Answers every request below `/v1/`.

    Args:
        store: Store of requests and records.
        injector: Selects faults.
        keys: Valid keys by vendor. Without an entry, any key is valid.
    """

    def __init__(self, store: Store, injector: Injector, keys: Mapping[Vendor, frozenset[str]]) -> None:
        self._store = store
        self._injector = injector
        self._keys = keys

    async def __call__(self, request: Request) -> Response:
        """Return the vendor's response."""
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=_cors(request))
        at, started = time.time(), time.perf_counter()
        try:
            body = await _read(request)
        except ClientDisconnect:
            return Response(status_code=400)  # the client has disconnected
        ingest, endpoints = endpoints_at(request.scope["path"])
        fault = NO_FAULT
        if ingest is not None:
            fault = self._injector.decide(ingest.vendor, now=started, chance=random.random)
            await anyio.sleep(fault.delay)
        arrived = _Incoming(request=request, at=at, body=body, ingest=ingest, endpoints=endpoints)
        return await run_in_threadpool(self._answer, arrived, fault, started)

    def _answer(self, arrived: _Incoming, fault: InjectedFault, started: float) -> Response:
        outcome, body = self._outcome(arrived)
        if fault.status is not None and arrived.ingest is not None:
            reason = f"answered {fault.status} on demand: {fault.reason}"
            outcome = IngestResult(
                arrived.ingest.error(fault.status, reason).with_headers(fault.headers),
                [base.reject(record, reason) for record in outcome.records],
                outcome.key,
            )
        reply, request = outcome.reply, arrived.request
        answer = msgspec.json.encode(reply.json)
        received = RecordedRequest(
            received_at=arrived.at,
            method=request.method,
            path=request.scope["path"],
            query=request.scope["query_string"].decode("latin-1"),
            headers=[(name, _masked_header(name, value)) for name, value in request.headers.items()],
            body=_without_key(body, outcome.key)[: base.MAX_KEPT],
            status=reply.status,
            reply=answer,
            latency_ms=(time.perf_counter() - started) * 1000,
            vendor=arrived.ingest.vendor if arrived.ingest else None,
            fault=fault.reason,
        )
        self._store.add(received, outcome.records)
        return Response(answer, reply.status, {**_cors(request), **reply.headers}, media_type="application/json")

    def _outcome(self, arrived: _Incoming) -> tuple[IngestResult, bytes]:
        """Return the vendor's result, and the decoded body."""
        request, ingest, body = arrived.request, arrived.ingest, arrived.body
        path, method = request.scope["path"], request.method
        if ingest is None:
            message = f"no vendor has the path {path}; the inspector's own API is described at /api/openapi.json"
            return IngestResult(Reply(404, {"error": {"code": "not_found", "message": message}})), body or b""
        endpoint = next((endpoint for endpoint in arrived.endpoints if endpoint.method == method), None)
        if endpoint is None:
            allowed = ", ".join(endpoint.method for endpoint in arrived.endpoints)
            reply = ingest.error(405, f"{path} takes {allowed}", "method_not_allowed")
            return IngestResult(reply.with_headers({"Allow": allowed})), body or b""
        try:
            if body is None:
                raise base.too_large()
            body = base.unzip(body, request.headers.get("content-encoding", "").strip().lower())
        except RequestRejected as refusal:
            return IngestResult(ingest.error(refusal.status, refusal.message, refusal.code)), body or b""
        asked = base.Request(
            method=method,
            path=path,
            query=dict(request.query_params),
            headers=dict(request.headers),
            body=body,
            received_at=arrived.at,
            keys=self._keys.get(ingest.vendor, frozenset()),
            flags=self._store.flags,
            known=partial(self._known, ingest.vendor),
        )
        return base.answer(ingest, endpoint, asked), body

    def _known(self, vendor: Vendor, user_id: str) -> list[InspectedRecord]:
        page = self._store.records(Filter(vendor=vendor, user=user_id, status="accepted"), limit=_KNOWN)
        return page.records[::-1]


class _Incoming(Struct, frozen=True, kw_only=True):
    request: Request
    at: float
    """Unix seconds."""
    body: bytes | None
    """None if it was too large."""
    ingest: Ingest | None
    endpoints: list[Endpoint]


async def _read(request: Request) -> bytes | None:
    """Return the body; None if it is too large. The rest of a large body is read and discarded."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= base.MAX_BODY:
            parts.append(part)
    return b"".join(parts) if size <= base.MAX_BODY else None


def _cors(request: Request) -> dict[str, str]:
    """Return headers that let any page call the vendors' endpoints, including beacons with cookies."""
    origin = request.headers.get("origin")
    if origin is None:
        return {}
    asked = request.headers.get("access-control-request-headers")
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": _METHODS,
        **({"Access-Control-Allow-Headers": asked} if asked else {}),
        "Access-Control-Allow-Private-Network": "true",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }


def _masked_header(name: str, value: str) -> str:
    return base.masked(value) if name in _SECRET_HEADERS else value


def _without_key(body: bytes, key: str | None) -> bytes:
    """Return the body with its key masked. A key short enough to be shown is not replaced."""
    if key is None or len(key) <= base.SHOWN_OF_A_SECRET:
        return body
    return body.replace(key.encode(errors="replace"), base.masked(key).encode(errors="replace"))
