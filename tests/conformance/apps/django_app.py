"""The table's app on Django: one set of urls for WSGI with plain views, one for ASGI with async views."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from asgiref.sync import iscoroutinefunction
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import SimpleLazyObject

from tests.conformance.cases import CASES, USER_HEADER, Visit, missing

LATER: list[Any] = []
MIDDLEWARE = ["sessionsight_django.AnalyticsMiddleware", f"{__name__}.users"]


class User:
    is_authenticated = True

    def __init__(self, name: str) -> None:
        self.pk = name


class AnonymousUser:
    is_authenticated = False
    pk = None


def make_wsgi(options: dict[str, Any]) -> WSGIHandler:
    with override_settings(MIDDLEWARE=MIDDLEWARE, SESSIONSIGHT=options):
        return WSGIHandler()


def make_asgi(options: dict[str, Any]) -> ASGIHandler:
    with override_settings(MIDDLEWARE=MIDDLEWARE, SESSIONSIGHT=options):
        return ASGIHandler()


@sync_and_async_middleware
def users(get_response: Any) -> Any:
    """Lazy users, as Django's own middleware gives them."""

    def attach(request: Any) -> None:
        name = request.headers.get(USER_HEADER)
        request.user = SimpleLazyObject(lambda: User(name) if name else AnonymousUser())

    def sync_middleware(request: Any) -> Any:
        attach(request)
        return get_response(request)

    async def async_middleware(request: Any) -> Any:
        attach(request)
        request.urlconf = "tests.conformance.apps.django_async_urls"
        return await get_response(request)

    return async_middleware if iscoroutinefunction(get_response) else sync_middleware


def serve(request: Any, name: str) -> Any:
    return CASES[name].view(
        Visit(
            request.analytics,
            load_user=lambda: request.user.is_authenticated,
            sign_in=lambda user: setattr(request, "user", User(user)),
            sign_out=lambda: setattr(request, "user", AnonymousUser()),
            later=LATER,
        )
    )


def view(request: Any, name: str, rest: str = "") -> Any:
    result = serve(request, name)
    if result is None or isinstance(result, str):
        return HttpResponse(result or "ok")
    return JsonResponse(result) if isinstance(result, dict) else StreamingHttpResponse(result)


async def async_view(request: Any, name: str, rest: str = "") -> Any:
    result = serve(request, name)
    if result is None or isinstance(result, str):
        return HttpResponse(result or "ok")
    return JsonResponse(result) if isinstance(result, dict) else StreamingHttpResponse(asynchronous(result))


async def asynchronous(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def handler404(request: Any, exception: Exception) -> HttpResponse:
    missing(request.analytics)
    return HttpResponse("missing", status=404)


urlpatterns = [
    path("cases/<str:name>", view),
    path("cases/<str:name>/<path:rest>", view),
]
