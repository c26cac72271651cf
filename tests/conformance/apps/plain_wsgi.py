"""The table's app without a framework, on WSGI."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sessionsight import Settings
from sessionsight.wsgi import AnalyticsMiddleware
from tests.conformance.cases import CASES, USER_HEADER, Visit, missing

LATER: list[Any] = []


def make(options: dict[str, Any]) -> AnalyticsMiddleware:
    # WSGI knows no users; a site says itself where it keeps them.
    options = {"user": lambda environ: environ.get("app.user"), **options}
    return AnalyticsMiddleware(app, settings=Settings.from_mapping(options))


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    analytics = environ["sessionsight.analytics"]
    path = environ["PATH_INFO"].split("/")
    if path[1] != "cases":
        missing(analytics)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"missing"]
    visit = Visit(
        analytics,
        load_user=lambda: environ.update({"app.user": environ["HTTP_" + USER_HEADER.upper().replace("-", "_")]}),
        sign_in=lambda name: environ.update({"app.user": name}),
        sign_out=lambda: environ.update({"app.user": None}),
        later=LATER,
    )
    result = CASES[path[2]].view(visit)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if result is None or isinstance(result, str):
        return [(result or "ok").encode()]
    if isinstance(result, dict):
        return [json.dumps(result).encode()]
    return result
