"""Reads Django's requests, of WSGI and ASGI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from msgspec import Struct
from msgspec.structs import replace

from sessionsight.adapters import HeaderNames, RequestData, quote_path, snapshot_environ, snapshot_scope
from sessionsight_django.user import load_user, loaded_user, user_id

__all__ = ["DjangoRequest", "is_behind_proxy"]


class DjangoRequest(Struct, eq=False):
    """Reads Django's request.

    Args:
        request: Django's own.
        load_user: Look up the user if it is not loaded: the setting `user="always"`.
        behind_proxy: As `is_behind_proxy()`, which costs more than a snapshot.
    """

    request: HttpRequest
    load_user: bool
    behind_proxy: bool

    def snapshot(self, names: HeaderNames) -> Callable[[], RequestData]:
        """Return a function that gives the raw strings of the request, without keeping it."""
        request = self.request
        # The scope takes precedence over META, which joins several Cookie headers by commas.
        scope, meta = request.__dict__.get("scope"), request.META
        raw = snapshot_environ(meta, names) if scope is None else snapshot_scope(scope, names)
        # Django knows the scheme and the host in front of its proxies, if it is configured so.
        host = meta.get("HTTP_X_FORWARDED_HOST")
        if host is not None and not settings.USE_X_FORWARDED_HOST:
            host = None
        return DjangoSnapshot(raw, request.path, request.scheme if self.behind_proxy else None, host)

    def framework_request(self) -> Any:
        """Return the request itself."""
        return self.request

    def user_id(self) -> str | None:
        """Return the primary key of the signed-in user, if the user is loaded."""
        user = loaded_user(self.request)
        if user is None and self.load_user:
            user = load_user(self.request)
        return None if user is None else user_id(user)

    def route(self) -> str | None:
        """Return the route of the URL pattern that matched, such as `orders/<int:pk>/`."""
        match = self.request.resolver_match
        return None if match is None else match.route


class DjangoSnapshot(Struct, frozen=True, gc=False):
    """The server's raw strings, with those that Django knows better: it has decoded the path in META."""

    raw: Callable[[], RequestData]
    path: str
    scheme: str | None
    host: str | None

    def __call__(self) -> RequestData:
        data = self.raw()
        path = quote_path(self.path.encode("utf-8", "surrogateescape"))
        if path == data.path and not (self.host or self.scheme):
            return data
        headers = {**data.headers, "host": self.host} if self.host else data.headers
        return replace(data, headers=headers, scheme=self.scheme or data.scheme, path=path)


def is_behind_proxy() -> bool:
    """Return whether Django reads the scheme from a header of its proxy."""
    return settings.SECURE_PROXY_SSL_HEADER is not None
