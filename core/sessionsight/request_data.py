"""The raw strings of a request, taken from whatever a Python server calls a request.

`from_environ` and `from_scope` serve the adapters; `from_any` recognises every shape by what it
looks like, so that no framework has to be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sessionsight.urls import quote_path

__all__ = [
    "HEADERS",
    "HeaderNames",
    "RequestData",
    "from_any",
    "from_environ",
    "from_scope",
    "snapshot_of_environ",
    "snapshot_of_scope",
]

# What `resolve` and `consent` read. Only these are taken from a request, so that the rest of it
# can be let go when the response ends.
HEADERS = (
    "cookie",
    "x-signal-session-id",
    "x-signal-window-id",
    "x-signal-distinct-id",
    "host",
    "referer",
    "user-agent",
    "x-forwarded-for",
    "sec-gpc",
    "dnt",
)


class RequestData(Struct, frozen=True, kw_only=True):
    """What an adapter hands over of a request: raw strings, nothing decoded.

    Example:
        >>> RequestData(headers={"cookie": "ss_sid=6f1d2c3b"}).headers["cookie"]
        'ss_sid=6f1d2c3b'
    """

    headers: Mapping[str, str] = {}
    """Those of `HEADERS` that came, by lower-case name. Several Cookie headers are joined by `"; "`."""
    cookies: Mapping[str, object] | None = None
    """Cookies that somebody else has decoded already, in place of the Cookie header."""
    scheme: str = "http"
    path: str | None = None
    """Percent-encoded, with the mount point of the app."""
    query: str = ""
    remote_addr: str | None = None


class HeaderNames:
    """The header names to take, in the spellings of WSGI and ASGI; made once per client."""

    __slots__ = ("asgi", "extra", "wsgi")

    def __init__(self, *extra: str | None) -> None:
        names = tuple(dict.fromkeys([*HEADERS, *(name.lower() for name in extra if name)]))
        self.wsgi = tuple("HTTP_" + name.upper().replace("-", "_") for name in names)
        self.extra = self.wsgi[len(HEADERS) :]
        """In the spelling of WSGI, those that are not among `HEADERS`."""
        self.asgi = {name.encode("latin-1"): name for name in names}


DEFAULT_HEADERS = HeaderNames()


def from_environ(environ: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> RequestData:
    """Take a request's strings from a WSGI environ, or from Django's `request.META`."""
    return snapshot_of_environ(environ, names)()


def from_scope(scope: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> RequestData:
    """Take a request's strings from an ASGI scope of type `http` or `websocket`."""
    return snapshot_of_scope(scope, names)()


def snapshot_of_environ(environ: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> Callable[[], RequestData]:
    """What does as `from_environ` when it is called; holds only the strings that this needs."""
    get = environ.get
    # Spelled out, here and below: each request pays for it, and a loop takes three times as long.
    return _Environ(
        names,
        get("SCRIPT_NAME"),
        get("PATH_INFO"),
        get("QUERY_STRING"),
        get("REMOTE_ADDR"),
        get("wsgi.url_scheme"),
        (
            get("HTTP_COOKIE"),
            get("HTTP_X_SIGNAL_SESSION_ID"),
            get("HTTP_X_SIGNAL_WINDOW_ID"),
            get("HTTP_X_SIGNAL_DISTINCT_ID"),
            get("HTTP_HOST"),
            get("HTTP_REFERER"),
            get("HTTP_USER_AGENT"),
            get("HTTP_X_FORWARDED_FOR"),
            get("HTTP_SEC_GPC"),
            get("HTTP_DNT"),
            *map(get, names.extra),
        ),
    )


def snapshot_of_scope(scope: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> Callable[[], RequestData]:
    """What does as `from_scope` when it is called; holds only the parts of the scope that this needs."""
    get = scope.get
    return _Scope(names, get("headers"), get("path"), get("query_string"), get("scheme"), get("client"))


class _Environ(Struct, frozen=True, gc=False):
    """What of a WSGI environ makes a request's data."""

    names: HeaderNames
    script_name: str | None
    path_info: str | None
    query: str | None
    remote_addr: str | None
    scheme: str | None
    headers: tuple[str | None, ...]

    def __call__(self) -> RequestData:
        path = (self.script_name or "") + (self.path_info or "")
        headers = zip(self.names.asgi.values(), self.headers, strict=True)
        return RequestData(
            headers={name: value for name, value in headers if value is not None},
            scheme=self.scheme or "http",
            path=quote_path(path.encode("latin-1", "replace")) if path else None,
            query=self.query or "",
            remote_addr=self.remote_addr,
        )


class _Scope(Struct, frozen=True, gc=False):
    """What of an ASGI scope makes a request's data."""

    names: HeaderNames
    headers: Iterable[tuple[bytes, bytes]] | None
    path: str | None
    query: bytes | str | None
    scheme: str | None
    client: tuple[str, int] | None

    def __call__(self) -> RequestData:
        headers: dict[str, str] = {}
        for raw_name, raw_value in self.headers or ():
            name = self.names.asgi.get(raw_name)
            if name is not None:
                value = raw_value.decode("latin-1")
                if name in headers:
                    # HTTP/2 may split cookies over several headers: RFC 9113, section 8.2.3.
                    value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
                headers[name] = value
        query = self.query
        return RequestData(
            headers=headers,
            scheme={None: "http", "ws": "http", "wss": "https"}.get(self.scheme, self.scheme or "http"),
            path=quote_path(self.path.encode("utf-8", "surrogateescape")) if self.path else None,
            query=query.decode("latin-1") if isinstance(query, bytes) else query or "",  # text, of Django's AsyncClient
            remote_addr=self.client[0] if self.client else None,
        )


def from_any(request: object, names: HeaderNames = DEFAULT_HEADERS) -> RequestData:
    """Take what there is from any request shape; what is not recognised gives empty data. Never raises.

    Tried in this order: a raw Cookie header string; an ASGI scope; a WSGI environ; a request of
    Django, Werkzeug, Flask, Starlette or FastAPI, by the raw scope or environ that it carries; an
    object with `cookies` and `headers`, or a mapping with such members; a mapping of headers; a
    mapping of cookies. Where decoded cookies hold one of the two SessionSight ids, the Cookie
    header is not looked at, as in the vendor's own SDK
    (https://github.com/SessionSight/sdks, sdk-shared/src).
    """
    try:
        return _recognised(request, names)
    except Exception:
        return RequestData()  # a stranger's object: whatever it raises, there is nothing to be had


def _recognised(request: object, names: HeaderNames) -> RequestData:
    if isinstance(request, str):
        return RequestData(headers={"cookie": request})
    if isinstance(request, Mapping):
        if "headers" in request and request.get("type") in {"http", "websocket"}:
            return from_scope(request, names)
        if "REQUEST_METHOD" in request or "HTTP_COOKIE" in request:
            return from_environ(request, names)
        if "headers" in request or "cookies" in request:
            return _from_parts(request.get("cookies"), request.get("headers"), names)
        data = _from_parts(request, request, names)
        return data if data.headers or data.cookies else RequestData(cookies=dict(request))
    if isinstance(scope := _attribute(request, "scope"), Mapping):
        return from_scope(scope, names)
    if isinstance(meta := _attribute(request, "META"), Mapping):
        data, path = from_environ(meta, names), _attribute(request, "path")
        # Django writes the path that it has decoded into the server's environ.
        return replace(data, path=quote_path(path.encode("utf-8", "surrogateescape"))) if path else data
    if isinstance(environ := _attribute(request, "environ"), Mapping):
        return from_environ(environ, names)
    cookies, headers = _attribute(request, "cookies"), _attribute(request, "headers")
    if cookies is None and headers is None:
        # A headers object that is no Mapping, such as http.client.HTTPMessage.
        return RequestData(headers=_headers(request, names))
    return _from_parts(cookies, headers, names)


def _from_parts(cookies: object, headers: object, names: HeaderNames) -> RequestData:
    taken = _headers(headers, names)
    if isinstance(cookies, list | tuple):  # AWS API Gateway: a list of "name=value"
        return RequestData(headers={**taken, "cookie": "; ".join(str(cookie) for cookie in cookies)})
    found = {name: _get(cookies, name) for name in ("ss_sid", "ss_vid")}
    if isinstance(cookies, Mapping):
        if any(isinstance(value, str) and value for value in found.values()):
            return RequestData(headers=taken, cookies=dict(cookies))
    elif any(found.values()):
        return RequestData(headers=taken, cookies=found)
    return RequestData(headers=taken)


def _headers(headers: object, names: HeaderNames) -> dict[str, str]:
    """The wanted headers out of a mapping in any case, or an object with `get`."""
    if isinstance(headers, Mapping):
        pairs: Iterable[tuple[object, object]] = headers.items()
    else:
        pairs = ((name, _get(headers, name)) for name in names.asgi.values())
    taken: dict[str, str] = {}
    for name, value in pairs:
        lower = name.lower() if isinstance(name, str) else ""
        if isinstance(value, str) and value and lower.encode("latin-1", "replace") in names.asgi:
            # Of several spellings the lower-case one counts.
            taken[lower] = value if name == lower else taken.get(lower, value)
    return taken


def _get(holder: object, name: str) -> object:
    get = _attribute(holder, "get")
    if not callable(get):
        return None
    try:
        return get(name)
    except Exception:
        return None


def _attribute(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:
        return None
