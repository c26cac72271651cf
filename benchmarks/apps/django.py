"""A Django project in one file, by its `WSGIHandler`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from time import perf_counter

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from benchmarks.apps.kinds import Captures, Served, View, nothing, wsgi_server
from benchmarks.timing import Clock, Serve
from benchmarks.vendors import Destinations

# What the one view does; an app of each kind is served in one process, but not at the same time.
_work: Callable[[HttpRequest], object] = lambda _: None  # noqa: E731

_numbers = count(5)


def _set_up() -> None:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            INSTALLED_APPS=["sessionsight_django"],
            LOGGING_CONFIG=None,
            ROOT_URLCONF=__name__,
            SECRET_KEY="bench",
            SESSIONSIGHT={"DISABLED": True},  # until an app with the middleware is asked for
            USE_TZ=True,
        )
        django.setup()


def _order(request: HttpRequest, order_id: int) -> HttpResponse:
    _work(request)
    return HttpResponse("ok")


urlpatterns = [path("orders/<int:order_id>", _order)]


def _serve(handler: WSGIHandler, work: Callable[[HttpRequest], object]) -> Serve:
    served = wsgi_server(handler)

    def serve(number: int, clock: Clock = perf_counter) -> float:
        vars(sys.modules[__name__])["_work"] = work
        return served(number, clock)

    return serve


def bare(view: View) -> Serve:
    _set_up()
    with override_settings(MIDDLEWARE=[]):
        return _serve(WSGIHandler(), (lambda _: None) if view is nothing else (lambda _: view()))


def ours(destinations: Destinations, captures: Captures | None) -> Served:
    _set_up()
    # Apps with equal settings would share a client, so each has another time limit of `flush` without an argument.
    settings.SESSIONSIGHT = {"DESTINATIONS": destinations, "FLUSH_TIMEOUT": float(next(_numbers))}
    from sessionsight_django.clients import client

    with override_settings(MIDDLEWARE=["sessionsight_django.AnalyticsMiddleware"]):
        handler = WSGIHandler()
    work = (lambda _: None) if captures is None else (lambda request: captures(request.analytics))
    return Served(_serve(handler, work), client())
