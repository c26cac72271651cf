"""A Django site for one test: its views, its settings, and a client that records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client, RequestFactory, override_settings
from django.urls import clear_url_caches, path

from sessionsight_django import clients
from tests.adapters.recording import COOKIE, Recorder

ANALYTICS = "sessionsight_django.AnalyticsMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
CONDITIONAL = "django.middleware.http.ConditionalGetMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"
UPDATE_CACHE = "django.middleware.cache.UpdateCacheMiddleware"
FETCH_FROM_CACHE = "django.middleware.cache.FetchFromCacheMiddleware"

urlpatterns: list[Any] = []


@contextmanager
def site(recorder: Recorder, *views: Any, middleware: Sequence[str] = (ANALYTICS,), **settings: Any) -> Iterator[None]:
    """A site with these views, under their names. Its settings are the recorder's, and so it finds that client."""
    urlpatterns[:] = [view if not callable(view) else path(f"{view.__name__}/", view) for view in views]
    clear_url_caches()
    clients._clients[:] = [recorder.client]
    ours = recorder.client.settings
    options = {name: getattr(ours, name) for name in ours.__struct_fields__}
    try:
        with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=middleware, SESSIONSIGHT=options, **settings):
            yield
    finally:
        clients._clients.clear()
        urlpatterns.clear()
        clear_url_caches()


def browser(kind: type[Any] = Client) -> Any:
    """Django's test client, as a visitor with an id."""
    client = kind(raise_request_exception=False)
    client.cookies["ss_vid"] = "visitor-1"
    return client


def wsgi(handler: WSGIHandler, where: str, **more: Any) -> tuple[str, dict[str, str], bytes]:
    """A request as a WSGI server makes it: status, headers and body."""
    began: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
        began.append((status, dict(headers)))
        return lambda _: None

    environ = RequestFactory().get(where, HTTP_COOKIE=COOKIE, HTTP_HOST="shop.example").environ
    response: Any = handler({**environ, **more}, start_response)
    try:
        body = b"".join(response)
    finally:
        response.close()
    [(status, headers)] = began
    return status, headers, body


async def asgi(handler: ASGIHandler, where: str, **headers: str) -> list[dict[str, Any]]:
    """A request as an ASGI server makes it: the messages that were sent."""
    sent: list[dict[str, Any]] = []
    inbox: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        if inbox:
            return inbox.pop()
        await asyncio.Event().wait()
        return None

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"host": "shop.example", "cookie": COOKIE, **headers}
    await handler(
        {
            "type": "http",
            "method": "GET",
            "path": where,
            "query_string": b"",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
        },
        receive,
        send,
    )
    return sent
