"""The JSON API below `/api/`, for tests and scripts. `openapi.py` describes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route

from sessionsight.inspector.event_feed import EventFeed
from sessionsight.inspector.fault_injection import Faults, FaultsError, Injector
from sessionsight.inspector.filters import MAX_ID, Filter, FilterError, problem
from sessionsight.inspector.openapi import MAX_LIMIT, MAX_WAIT, document
from sessionsight.inspector.store import Store

__all__ = ["api_routes"]

T = TypeVar("T", bound=Struct)
Operation = Callable[[Request], Awaitable[Response]]


class Paging(Struct, frozen=True):
    """Which part of a list is wanted."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = 50
    before: Annotated[int, Meta(ge=0, le=MAX_ID)] = MAX_ID


class Wait(Struct, frozen=True):
    """Parameters of the wait."""

    count: Annotated[int, Meta(ge=0, le=MAX_ID)] = 1
    timeout: Annotated[float, Meta(ge=0, le=MAX_WAIT)] = 10.0


class NoParameters(Struct, frozen=True):
    """For what has no parameters of its own."""


def api_routes(store: Store, feed: EventFeed, injector: Injector) -> list[BaseRoute]:
    """The API of a store."""
    return [Mount("/api", routes=_Api(store, feed, injector).routes)]


class _Api:
    def __init__(self, store: Store, feed: EventFeed, injector: Injector) -> None:
        self._store = store
        self._feed = feed
        self._injector = injector

    @property
    def routes(self) -> list[BaseRoute]:
        return [
            _route("/records", GET=self._records, DELETE=self._clear),
            Route("/records/{id}", self._record),
            Route("/requests/{id}", self._request),
            Route("/goals", self._goals),
            Route("/goals/{id:path}", self._goal),
            Route("/sessions", self._sessions),
            Route("/sessions/{id:path}", self._session),
            Route("/counts", self._counts),
            Route("/health", self._health),
            Route("/wait", self._wait),
            _route("/flags", GET=self._flags, PUT=self._set_flags),
            _route("/faults", GET=self._faults, PUT=self._set_faults),
            Route("/stream", self._stream),
            Route("/openapi.json", self._document),
        ]

    # --- Records ----------------------------------------------------------------------------------

    async def _records(self, request: Request) -> Response:
        wanted, paging = _filtered(request, Paging)
        return await _json_or_404(self._store.records, wanted, before=paging.before, limit=paging.limit)

    async def _clear(self, request: Request) -> Response:
        _parameters(request, NoParameters)
        return _json({"removed": await run_in_threadpool(self._store.clear)})

    async def _record(self, request: Request) -> Response:
        return await _json_or_404(self._store.record, _id(request))

    async def _request(self, request: Request) -> Response:
        return await _json_or_404(self._store.request, _id(request))

    async def _counts(self, request: Request) -> Response:
        return await _json_or_404(self._store.counts)

    async def _wait(self, request: Request) -> Response:
        wanted, wait = _filtered(request, Wait)
        count = await self._feed.wait_for(wanted, wait.count, timeout=wait.timeout)
        return _json({"count": count, "reached": count >= wait.count})

    async def _stream(self, request: Request) -> Response:
        wanted, _ = _filtered(request, NoParameters)
        given = request.headers.get("last-event-id", "")
        after = int(given) if given.isdecimal() and int(given) <= MAX_ID else wanted.after
        if after is None:
            after = await run_in_threadpool(self._store.newest)
        return StreamingResponse(
            self._events(wanted, after), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def _events(self, wanted: Filter, after: int) -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        async for news in self._feed.follow(wanted, after=after):
            match news:
                case "heartbeat":
                    yield b": nothing new\n\n"  # so that a connection that has gone is noticed
                case "cleared" | "reload":
                    yield f"event: {news}\ndata: {{}}\n\n".encode()
                case record:
                    yield b"event: record\nid: %d\ndata: %b\n\n" % (record.id, msgspec.json.encode(record))

    # --- Sums -------------------------------------------------------------------------------------

    async def _goals(self, request: Request) -> Response:
        _parameters(request, NoParameters)
        return _json({"goals": await run_in_threadpool(self._store.goals)})

    async def _goal(self, request: Request) -> Response:
        goal_id = request.path_params["id"]
        goal = await run_in_threadpool(self._store.goal, goal_id)
        if goal is None:
            raise HTTPException(404, f"no record has counted for the goal {goal_id!r}")
        return _json({"goal": goal, "series": await run_in_threadpool(self._store.goal_series, goal_id)})

    async def _sessions(self, request: Request) -> Response:
        paging = _parameters(request, Paging)
        found = await run_in_threadpool(self._store.sessions, limit=paging.limit + 1, before=paging.before)
        page = found[: paging.limit]
        return _json({"sessions": page, "next": page[-1].cursor if len(found) > len(page) else None})

    async def _session(self, request: Request) -> Response:
        session_id = request.path_params["id"]
        records = await run_in_threadpool(self._store.session, session_id)
        if not records:
            raise HTTPException(404, f"no record belongs to the session {session_id!r}")
        return _json({"session_id": session_id, "records": records})

    async def _health(self, request: Request) -> Response:
        _parameters(request, NoParameters)
        return _json({"vendors": await run_in_threadpool(self._store.health)})

    # --- Flags ------------------------------------------------------------------------------------

    async def _flags(self, request: Request) -> Response:
        _parameters(request, NoParameters)
        return _json(self._store.flags)

    async def _set_flags(self, request: Request) -> Response:
        try:
            flags = msgspec.json.decode(await request.body(), type=dict[str, bool | str])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPException(400, str(error)) from None
        self._store.flags = flags
        return _json(flags)

    # --- Faults -----------------------------------------------------------------------------------

    async def _faults(self, request: Request) -> Response:
        _parameters(request, NoParameters)
        return _json(self._injector.faults)

    async def _set_faults(self, request: Request) -> Response:
        try:
            faults = msgspec.json.decode(await request.body(), type=Faults).validated()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, FaultsError) as error:
            raise HTTPException(400, str(error)) from None
        self._injector.faults = faults
        return _json(faults)

    async def _document(self, request: Request) -> Response:
        return _json(document())


def _route(path: str, **operations: Operation) -> Route:
    """One path with several methods: only so does Starlette name them all in `Allow`."""

    async def operate(request: Request) -> Response:
        return await operations["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, operate, methods=[*operations])


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers={"Cache-Control": "no-store"})


async def _json_or_404(look_up: Callable[..., Any], *given: Any, **named: Any) -> Response:
    value = await run_in_threadpool(look_up, *given, **named)
    if value is None:
        raise HTTPException(404, "there is none, or it has given way to newer ones")
    return _json(value)


def _id(request: Request) -> int:
    _parameters(request, NoParameters)
    text = request.path_params["id"]
    if not (text.isascii() and text.isdigit() and int(text[:20]) <= MAX_ID and len(text) <= 19):
        raise HTTPException(404, f"an id is a number, not {text!r}")
    return int(text)


def _filtered(request: Request, kind: type[T]) -> tuple[Filter, T]:
    parameters = _parameters(request, kind, also=Filter.__struct_fields__)
    try:
        return Filter.from_query(request.query_params), parameters
    except FilterError as error:
        raise HTTPException(400, str(error)) from None


def _parameters(request: Request, kind: type[T], *, also: Sequence[str] = ()) -> T:
    """The query's parameters as a value; one that does not exist is an error, so that a typo selects nothing else."""
    known = [field.name for field in msgspec.structs.fields(kind)]
    query = request.query_params
    for name, value in query.multi_items():
        if name not in known and name not in also:
            raise HTTPException(400, f"{name}: there is no such parameter; there are {', '.join([*known, *also])}")
        if not value or len(query.getlist(name)) > 1:
            raise HTTPException(400, f"{name}: must be given once, with a value, or not at all")
    try:
        return msgspec.convert({name: query[name] for name in known if name in query}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise HTTPException(400, problem(error)) from None
