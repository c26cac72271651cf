"""How a request is read from Django's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from msgspec.structs import replace

from sessionsight.request_data import HeaderNames, RequestData, from_environ, from_scope
from sessionsight.urls import quote_path
from sessionsight_django.user import load_user, loaded_user, user_id

__all__ = ["DjangoReader"]


class DjangoReader:
    """Reads Django's requests, of WSGI and ASGI.

    Args:
        load: Whether the user is looked up when nobody has done so: the setting `user="always"`.
    """

    __slots__ = ("load",)

    def __init__(self, *, load: bool) -> None:
        self.load = load

    def request_data(self, request: HttpRequest, names: HeaderNames) -> RequestData:
        """The raw strings of the request."""
        # The scope goes before META, which joins several Cookie headers by commas.
        scope = getattr(request, "scope", None)
        data = from_environ(request.META, names) if scope is None else from_scope(scope, names)
        headers = data.headers
        if settings.USE_X_FORWARDED_HOST and (host := request.META.get("HTTP_X_FORWARDED_HOST")):
            headers = {**headers, "host": host}
        # Django has decoded the path in META, and knows the scheme in front of its proxies.
        path = quote_path(request.path.encode("utf-8", "surrogateescape"))
        return replace(data, headers=headers, scheme=request.scheme or data.scheme, path=path)

    def later(self, request: HttpRequest, names: HeaderNames) -> Callable[[], RequestData]:
        """The same when it is called, without holding the request."""
        data = self.request_data(request, names)
        return lambda: data

    def native(self, request: HttpRequest) -> Any:
        """The request itself."""
        return request

    def user_id(self, request: HttpRequest) -> str | None:
        """The primary key of the signed-in user, if the user is loaded."""
        user = loaded_user(request)
        return user_id(load_user(request) if user is None and self.load else user)

    def route(self, request: HttpRequest) -> str | None:
        """The route of the URL pattern that matched, such as `orders/<int:pk>/`."""
        match = request.resolver_match
        return None if match is None else match.route
