"""Passes the visitor's ids on in requests of requests, by a transport adapter."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from sessionsight.propagation.headers import Propagation

__all__ = ["PropagatingAdapter"]


class PropagatingAdapter(HTTPAdapter):
    """An adapter that adds the current visitor's ids, for `Session.mount`.

    It sends a copy of each request. The request itself, from which requests makes the one that follows a redirect, has
    no ids.

    Args:
        *hosts: The only hosts that receive the ids, such as `"api.example.com"`, `"api.example.com:8443"`,
            `"*.example.com"` for its subdomains, or `".example.com"` for both.
        **options: Options of `HTTPAdapter`, such as `max_retries`.

    Raises:
        ConfigurationError: There is no host, or one of them is not a host.

    Example:
        >>> import requests
        >>> session = requests.Session()
        >>> session.mount("https://", PropagatingAdapter("api.example.com", max_retries=2))
    """

    __attrs__ = [*HTTPAdapter.__attrs__, "_propagation"]  # noqa: RUF012  # kept by pickles, as those of the base

    def __init__(self, *hosts: str, **options: Any) -> None:
        self._propagation = Propagation(hosts)
        super().__init__(**options)

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """Send the request with the ids, as `HTTPAdapter.send` does."""
        added = self._headers_for(request)
        if not added:
            return super().send(request, *args, **options)
        copied = request.copy()
        copied.headers.update(added)
        response = super().send(copied, *args, **options)
        response.request = request
        return response

    def _headers_for(self, request: PreparedRequest) -> dict[str, str]:
        try:
            url = urlsplit(str(request.url))
            scheme, host, port = url.scheme, url.hostname or "", url.port
        except ValueError:  # requests raises an exception of its own for this URL
            return {}
        cookie = request.headers.get("cookie", "")
        cookie = cookie.decode("latin-1") if isinstance(cookie, bytes) else cookie
        return self._propagation.headers(scheme, host, port, given=request.headers, cookie=cookie)
