"""The HTML pages: whole without a script, live with one.

Every page is made here, on the server. The script on it only asks for the same address again when records have
arrived, and takes over what has changed, so that nothing is drawn in two places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import parse_qs, urlencode

import jinja2
import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from sessionsight.inspector import charts, flag_lines, template_filters
from sessionsight.inspector.fault_injection import Faults, FaultsError, Injector
from sessionsight.inspector.filters import MAX_ID, Filter, FilterError
from sessionsight.inspector.flag_lines import FlagsError
from sessionsight.inspector.model import KINDS, InspectedRecord, RecordPage, Visit
from sessionsight.inspector.snippets import snippets
from sessionsight.inspector.spool import SpoolReader
from sessionsight.inspector.store import Store
from sessionsight.inspector.timeline import lay_out

__all__ = ["page_routes"]

_HERE = Path(__file__).parent
_TITLES = {"sessionsight": "SessionSight", "signal": "Signal", "saytics": "Saytics", "analyse": "Analyse.net"}
_LONGEST = 500
"""Records of a session that its page shows."""
_SAME_MOMENT = 1.0
"""Seconds between records that one request of the app may have caused."""
_SESSIONS_ASKED = 5
"""Most sessions of the same people that are searched for a record."""
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_BATCHED = 30.0
"""Seconds by which vendors' batches may arrive apart."""


def page_routes(store: Store, injector: Injector, spool: SpoolReader | None = None) -> list[BaseRoute]:
    """The pages of a store, and the files that they need.

    Args:
        store: What they show.
        injector: Holds the faults that the page about health changes.
        spool: The app's spool, if the page about health shows one.
    """
    return _Pages(store, injector, spool).routes


class _Pages:
    def __init__(self, store: Store, injector: Injector, spool: SpoolReader | None) -> None:
        self._store = store
        self._injector = injector
        self._spool = spool
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        self._templates.filters.update(template_filters.FILTERS)
        self._templates.globals.update(
            vendors=_TITLES,
            kinds=KINDS,
            bars=charts.bars,
            meter=charts.meter,
            proportions=charts.proportions,
            steps=charts.steps,
        )

    @property
    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self._stream),
            Route("/records/{id}", self._record),
            Route("/sessions", self._sessions),
            Route("/sessions/{id:path}", self._session),
            Route("/goals", self._goals),
            Route("/goals/{id:path}", self._goal),
            Route("/health", self._health, methods=["GET", "POST"]),
            Route("/clear", self._clear, methods=["POST"]),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
            Route("/{path:path}", self._not_found, methods=_METHODS),
        ]

    # --- Records ----------------------------------------------------------------------------------

    def _stream(self, request: Request) -> Response:
        given = {name: value for name in Filter.__struct_fields__ if (value := request.query_params.get(name))}
        before = _number(request.query_params.get("before", ""))
        error, page, query, matching = "", RecordPage([], None), "", 0
        try:
            wanted = Filter.from_query(given)
            page = self._store.records(wanted, before=before)
            query = _query(wanted.to_query())
            matching = self._store.count(wanted) if given else 0
        except FilterError as problem:
            error = str(problem)
        return self._page(
            request,
            "stream.html",
            here="/",
            status=400 if error else 200,
            given={name: given.get(name, "") for name in Filter.__struct_fields__},
            filtered=bool(given),
            narrow=not given.keys() <= {"text", "vendor"},
            error=error,
            page=page,
            before=before,
            query=query,
            matching=matching,
            older=_query({**given, "before": str(page.next)}),
            counts=self._store.counts(),
        )

    def _record(self, request: Request) -> Response:
        number = _number(request.path_params["id"])
        record = None if number is None else self._store.record(number)
        if record is None:
            return self._not_found_page(
                request, "No such record", "It may have been cleared, or removed for newer ones."
            )
        received = self._store.request(record.request_id)
        near = self._related(record)
        return self._page(
            request,
            "record.html",
            here="/",
            record=record,
            cause=_origin_of(record, near),
            visit=self._visit_of(record, near),
            received=received,
            http=received and template_filters.raw_request(received),
            curl=received and template_filters.as_curl(received, _url(request)),
            older=self._store.record(record.id - 1) and record.id - 1,
            newer=self._store.record(record.id + 1) and record.id + 1,
            agent=received and dict(received.headers).get("user-agent"),
            siblings=self._store.siblings(record.request_id),
        )

    def _related(self, record: InspectedRecord) -> list[InspectedRecord]:
        """Records of the same session, or of the same people at the same time."""
        since, until = record.received_at - _BATCHED, record.received_at + _BATCHED
        near = self._store.session(record.session_id) if record.session_id else []
        if record.user_id:
            near += self._store.records(Filter(user=record.user_id, since=since, until=until), limit=100).records
        if record.visitor_id:
            near += self._store.records(Filter(visitor=record.visitor_id, since=since, until=until), limit=100).records
        return near

    def _visit_of(self, record: InspectedRecord, near: Sequence[InspectedRecord]) -> str | None:
        """Return the session of the visit that a record without session is linked to."""
        if record.session_id:
            return None
        sessions = dict.fromkeys(one.session_id for one in near if one.session_id)
        for session_id in list(sessions)[:_SESSIONS_ASKED]:
            visit = self._store.visit(session_id)
            if visit is not None and any(one.id == record.id for one in visit.records):
                return visit.session_id
        return None

    # --- Sessions ---------------------------------------------------------------------------------

    def _sessions(self, request: Request) -> Response:
        before = _number(request.query_params.get("before", ""))
        found = self._store.sessions(limit=51, before=before)
        return self._page(
            request,
            "sessions.html",
            here="/sessions",
            sessions=found[:50],
            before=before,
            older=found[49].cursor if len(found) > 50 else None,
            any=bool(found) or self._store.counts().total,
        )

    def _session(self, request: Request) -> Response:
        visit = self._store.visit(request.path_params["id"])
        if visit is None:
            return self._not_found_page(request, "No such session", "None of the records belongs to it.")
        records = visit.records
        shown = records[-_LONGEST:]
        return self._page(
            request,
            "session.html",
            here="/sessions",
            session_id=visit.session_id,
            ids=_ids(visit),
            by_time=visit.linked_by_time,
            who=visit.user_id or _latest(records, "visitor_id"),
            first=shown[0].occurred_at,
            by_vendor=Counter(record.vendor for record in records),
            timeline=lay_out(shown),
            left_out=len(records) - len(shown),
        )

    # --- Goals ------------------------------------------------------------------------------------

    def _goals(self, request: Request) -> Response:
        goals = self._store.goals()
        return self._page(
            request,
            "goals.html",
            here="/goals",
            goals=[(goal, self._store.goal_series(goal.goal_id)) for goal in goals[:100]],
            revenue=sum(goal.total for goal in goals if goal.money),
        )

    def _goal(self, request: Request) -> Response:
        goal_id = request.path_params["id"]
        goal = self._store.goal(goal_id)
        if goal is None:
            return self._not_found_page(request, "No such goal", "None of the accepted records is for this goal.")
        points = self._store.goal_series(goal_id, buckets=120)
        low, high = charts.bounds(points)
        grid = charts.round_steps(low, high, whole=not goal.money)
        return self._page(
            request,
            "goal.html",
            here="/goals",
            goal=goal,
            points=points,
            grid=grid,
            scale=[(value, charts.height_of(value, low, high)) for value in grid],
            page=self._store.records(Filter(kind="goal", event=goal_id), limit=20),
        )

    # --- Health -----------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        if request.method != "POST":
            return await run_in_threadpool(self._show_health, request)
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        if "flags" in request.query_params:
            return await self._set_flags(request, form.get("flags", [""])[-1])
        given = {name: form.get(name, [""])[-1].strip() for name in Faults.__struct_fields__}
        try:
            self._injector.faults = Faults(**given).validated()
        except FaultsError as error:
            return await run_in_threadpool(self._show_health, request, given=given, error=str(error))
        return RedirectResponse("/health?saved", 303)

    async def _set_flags(self, request: Request, text: str) -> Response:
        try:
            self._store.flags = flag_lines.read(text)
        except FlagsError as error:
            return await run_in_threadpool(self._show_health, request, flags=text, error=str(error))
        return RedirectResponse("/health?flags#flags", 303)

    def _show_health(
        self,
        request: Request,
        *,
        given: Mapping[str, str | None] | None = None,
        flags: str | None = None,
        error: str | None = None,
    ) -> Response:
        health = self._store.health()
        return self._page(
            request,
            "health.html",
            here="/health",
            status=400 if error else 200,
            health=[(one, list(zip(one.accepted_series, one.refused_series, strict=True))) for one in health],
            slowest=max((one.latency_p95 or 0 for one in health), default=0),
            minutes=[f"{59 - minute} min ago" for minute in range(60)],
            busiest=[max(map(sum, zip(one.accepted_series, one.refused_series, strict=True))) for one in health],
            spool=self._spool and self._spool.read(),
            now=time(),
            faults=given or msgspec.to_builtins(self._injector.faults),
            flags=flag_lines.as_text(self._store.flags) if flags is None else flags,
            error=error,
            flags_saved="flags" in request.query_params and not error,
            saved="saved" in request.query_params,
        )

    async def _clear(self, request: Request) -> Response:
        await run_in_threadpool(self._store.clear)
        return RedirectResponse("/", 303)

    # --- All --------------------------------------------------------------------------------------

    def _not_found(self, request: Request) -> Response:
        """For people a page; for programs, which may have a vendor's address slightly wrong, what they expect."""
        if "text/html" not in request.headers.get("accept", ""):
            raise HTTPException(404)
        return self._not_found_page(request, "No such page", "The URL may be mistyped, or from another version.")

    def _not_found_page(self, request: Request, what: str, why: str) -> Response:
        return self._page(request, "missing.html", here="", status=404, what=what, why=why)

    def _page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        url = _url(request)
        html = self._templates.get_template(template).render(
            url=url,
            snippets=snippets(url),
            today=template_filters.day(time()),
            bad_day=_active_faults(self._injector.faults),
            **values,
        )
        return HTMLResponse(html, status)


def _number(text: str) -> int | None:
    """A record's id, or a cursor."""
    return min(int(text), MAX_ID) if text.isascii() and text.isdigit() and len(text) < 40 else None


def _origin_of(record: InspectedRecord, near: Sequence[InspectedRecord]) -> InspectedRecord | None:
    """The record that names the app's page or request: itself, or another vendor's of the same moment."""
    if record.page_url:
        return record

    def apart(other: InspectedRecord) -> float:
        return abs(other.occurred_at - record.occurred_at)

    fitting = (one for one in near if one.page_url and one.side == record.side and apart(one) <= _SAME_MOMENT)
    return min(fitting, key=apart, default=None)


def _url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _active_faults(faults: Faults) -> str:
    """The faults that are on, in words: `fail 500:0.3, latency 200-800`."""
    on = msgspec.to_builtins(faults)
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in on.items() if value)


def _ids(visit: Visit) -> dict[str, list[str]]:
    """All ids in a visit, by the filter of the stream that takes them; the windows', which none takes, last."""
    found = {"session": visit.sessions}
    for name in ("user", "visitor", "window"):
        values = (getattr(record, f"{name}_id") for record in visit.records)
        found[name] = list(dict.fromkeys(value for value in values if value is not None))
    return found


def _query(parameters: Mapping[str, str]) -> str:
    return f"?{urlencode(parameters)}" if parameters else ""


def _latest(records: Sequence[InspectedRecord], field: str) -> str | None:
    return next((value for record in reversed(records) if (value := getattr(record, field)) is not None), None)
