"""A bare WSGI callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.apps.kinds import Captures, Served, View, wsgi_server
from benchmarks.timing import Serve
from benchmarks.vendors import Destinations
from sessionsight.wsgi import ENVIRON_KEY, AnalyticsMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse

_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "2")]


def bare(view: View) -> Serve:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        view()
        start_response("200 OK", _HEADERS)
        return [b"ok"]

    return wsgi_server(app)


def ours(destinations: Destinations, captures: Captures | None, **options: Any) -> Served:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if captures is not None:
            captures(environ[ENVIRON_KEY])
        start_response("200 OK", _HEADERS)
        return [b"ok"]

    served = AnalyticsMiddleware(app, destinations=destinations, **options)
    return Served(wsgi_server(served), served.client)
