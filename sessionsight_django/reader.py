"""How a request is read from Django's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from msgspec import Struct
from msgspec.structs import replace

from sessionsight.request.raw import HeaderNames, RequestData, snapshot_environ, snapshot_scope
from sessionsight.request.urls import quote_path
from sessionsight_django.user import load_user, loaded_user, user_id

__all__ = ["DjangoReader"]


class DjangoReader:
    """Reads Django's requests, of WSGI and ASGI.

    Args:
        load: Whether the user is looked up when nobody has done so: the setting `user="always"`.
    """

    __slots__ = ("_proxied", "load")

    def __init__(self, *, load: bool) -> None:
        self.load = load
        # Each look at Django's settings costs more than all the rest of a snapshot.
        self._proxied = settings.SECURE_PROXY_SSL_HEADER is not None

    def snapshot(self, request: HttpRequest, names: HeaderNames) -> Callable[[], RequestData]:
        """What gives the raw strings of the request, without holding it."""
        # The scope goes before META, which joins several Cookie headers by commas.
        scope, meta = request.__dict__.get("scope"), request.META
        raw = snapshot_environ(meta, names) if scope is None else snapshot_scope(scope, names)
        # Django knows the scheme and the host in front of its proxies, if it is told to.
        host = meta.get("HTTP_X_FORWARDED_HOST")
        if host is not None and not settings.USE_X_FORWARDED_HOST:
            host = None
        return _Known(raw, request.path, request.scheme if self._proxied else None, host)

    def native(self, request: HttpRequest) -> Any:
        """The request itself."""
        return request

    def user_id(self, request: HttpRequest) -> str | None:
        """The primary key of the signed-in user, if the user is loaded."""
        user = loaded_user(request)
        if user is None and self.load:
            user = load_user(request)
        return None if user is None else user_id(user)

    def route(self, request: HttpRequest) -> str | None:
        """The route of the URL pattern that matched, such as `orders/<int:pk>/`."""
        match = request.resolver_match
        return None if match is None else match.route


class _Known(Struct, frozen=True, gc=False):
    """What a server has told, and Django knows better: it has decoded the path in META."""

    raw: Callable[[], RequestData]
    path: str
    scheme: str | None
    host: str | None

    def __call__(self) -> RequestData:
        data = self.raw()
        headers = {**data.headers, "host": self.host} if self.host else data.headers
        path = quote_path(self.path.encode("utf-8", "surrogateescape"))
        return replace(data, headers=headers, scheme=self.scheme or data.scheme, path=path)
