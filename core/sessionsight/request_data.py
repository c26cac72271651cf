"""The raw strings of a request, taken from whatever a Python server calls a request.

`from_environ` and `from_scope` serve the adapters; `from_any` recognises every shape by what it
looks like, so that no framework has to be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
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


_ENVIRON_KEYS = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "wsgi.url_scheme")
_SCOPE_KEYS = ("headers", "path", "query_string", "scheme", "client")


class HeaderNames:
    """The header names to take, in the spellings of WSGI and ASGI; made once per client."""

    __slots__ = ("asgi", "environ_keys", "wsgi")

    def __init__(self, *extra: str | None) -> None:
        names = dict.fromkeys([*HEADERS, *(name.lower() for name in extra if name)])
        self.wsgi = tuple((name, "HTTP_" + name.upper().replace("-", "_")) for name in names)
        self.environ_keys = (*_ENVIRON_KEYS, *(key for _, key in self.wsgi))
        self.asgi = {name.encode("latin-1"): name for name in names}


DEFAULT_HEADERS = HeaderNames()


def from_environ(environ: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> RequestData:
    """Take a request's strings from a WSGI environ, or from Django's `request.META`."""
    return snapshot_of_environ(environ, names)()


def snapshot_of_environ(environ: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> Callable[[], RequestData]:
    """What does as `from_environ` when it is called; holds only the strings that this needs."""
    return partial(_of_environ, names, *map(environ.get, names.environ_keys))


def _of_environ(  # noqa: PLR0917  # as `environ_keys` lists them
    names: HeaderNames,
    script_name: str | None,
    path_info: str | None,
    query: str | None,
    remote_addr: str | None,
    scheme: str | None,
    *headers: str | None,
) -> RequestData:
    path = (script_name or "") + (path_info or "")
    return RequestData(
        headers={name: value for (name, _), value in zip(names.wsgi, headers, strict=True) if value is not None},
        scheme=scheme or "http",
        path=quote_path(path.encode("latin-1", "replace")) if path else None,
        query=query or "",
        remote_addr=remote_addr,
    )


def from_scope(scope: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> RequestData:
    """Take a request's strings from an ASGI scope of type `http` or `websocket`."""
    return snapshot_of_scope(scope, names)()


def snapshot_of_scope(scope: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> Callable[[], RequestData]:
    """What does as `from_scope` when it is called; holds only the parts of the scope that this needs."""
    return partial(_of_scope, names, *map(scope.get, _SCOPE_KEYS))


def _of_scope(  # noqa: PLR0917  # as `_SCOPE_KEYS` lists them
    names: HeaderNames,
    raw_headers: Iterable[tuple[bytes, bytes]] | None,
    path: str | None,
    query: bytes | str | None,
    scheme: str | None,
    client: tuple[str, int] | None,
) -> RequestData:
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw_headers or ():
        name = names.asgi.get(raw_name)
        if name is not None:
            value = raw_value.decode("latin-1")
            if name in headers:
                # HTTP/2 may split cookies over several headers: RFC 9113, section 8.2.3.
                value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
            headers[name] = value
    return RequestData(
        headers=headers,
        scheme={None: "http", "ws": "http", "wss": "https"}.get(scheme, scheme or "http"),
        path=quote_path(path.encode("utf-8", "surrogateescape")) if path else None,
        query=query.decode("latin-1") if isinstance(query, bytes) else query or "",  # text, from Django's AsyncClient
        remote_addr=client[0] if client else None,
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
