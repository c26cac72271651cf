"""Raw data of a request, read from the request objects of any Python server.

`from_environ` and `from_scope` serve the adapters; `from_any` recognises every shape by its members, without importing
a framework.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sessionsight.request.containers import attribute, has_pairs, item, read_cookies, read_headers
from sessionsight.request.context import OPTED_OUT_NAME
from sessionsight.request.urls import quote_path

__all__ = [
    "HEADERS",
    "HeaderNames",
    "RequestData",
    "from_any",
    "from_environ",
    "from_scope",
    "snapshot_environ",
    "snapshot_scope",
]

# The headers that `resolve` and `consents` read. Only these are kept, so that the request can be released when the
# response ends.
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
    """Raw data of a request, the same for every framework; the argument of a `consent` function.

    Example:
        >>> RequestData(headers={"cookie": "ss_sid=6f1d2c3b"}).headers["cookie"]
        'ss_sid=6f1d2c3b'
    """

    headers: Mapping[str, str] = {}
    """Those of `HEADERS` that the request has, by lower-case name. Several Cookie headers are joined by `"; "`."""
    cookies: Mapping[str, object] | None = None
    """Cookies that are decoded already, instead of the Cookie header."""
    scheme: str = "http"
    path: str | None = None
    """Percent-encoded, including the mount point of the app."""
    query: str = ""
    remote_addr: str | None = None


class HeaderNames:
    """The header names to read, in the spellings of WSGI and ASGI; created once per client."""

    __slots__ = ("asgi", "cookies", "extra", "wsgi")

    def __init__(self, *extra: str | None, cookie: str | None = None) -> None:
        names = tuple(dict.fromkeys([*HEADERS, *(name.lower() for name in extra if name)]))
        self.wsgi = tuple("HTTP_" + name.upper().replace("-", "_") for name in names)
        self.extra = self.wsgi[len(HEADERS) :]
        """Names that are not in `HEADERS`, in the spelling of WSGI."""
        self.cookies = ("ss_sid", "ss_vid", OPTED_OUT_NAME, *([cookie] if cookie else []))
        """The cookies to read where they cannot be listed."""
        self.asgi = {name.encode("latin-1"): name for name in names}


DEFAULT_HEADERS = HeaderNames()


def from_environ(environ: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> RequestData:
    """Return the data of a WSGI environ, or of Django's `request.META`."""
    return snapshot_environ(environ, names)()


def from_scope(scope: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> RequestData:
    """Return the data of an ASGI scope of type `http` or `websocket`."""
    return snapshot_scope(scope, names)()


def snapshot_environ(environ: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> Callable[[], RequestData]:
    """Return a function that does as `from_environ` later, and keeps only the strings that it needs."""
    get = environ.get
    # Unrolled here and below, because a loop takes three times as long for each request.
    return EnvironSnapshot(
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
        ),
        tuple(map(get, names.extra)) if names.extra else (),
    )


def snapshot_scope(scope: Mapping[str, Any], names: HeaderNames = DEFAULT_HEADERS) -> Callable[[], RequestData]:
    """Return a function that does as `from_scope` later, and keeps only the parts of the scope that it needs."""
    get = scope.get
    return ScopeSnapshot(names, get("headers"), get("path"), get("query_string"), get("scheme"), get("client"))


class EnvironSnapshot(Struct, frozen=True, gc=False):
    """The parts of a WSGI environ that a request's data is read from."""

    names: HeaderNames
    script_name: str | None
    path_info: str | None
    query: str | None
    remote_addr: str | None
    scheme: str | None
    headers: tuple[str | None, ...]
    extra: tuple[str | None, ...]

    def __call__(self) -> RequestData:
        path = (self.script_name or "") + (self.path_info or "")
        values = self.headers + self.extra if self.extra else self.headers
        headers = zip(self.names.asgi.values(), values, strict=True)
        return RequestData(
            headers={name: value for name, value in headers if value is not None},
            scheme=self.scheme or "http",
            path=quote_path(path.encode("latin-1", "replace")) if path else None,
            query=self.query or "",
            remote_addr=self.remote_addr,
        )


_SCHEMES = {None: "http", "ws": "http", "wss": "https"}


class ScopeSnapshot(Struct, frozen=True, gc=False):
    """The parts of an ASGI scope that a request's data is read from."""

    names: HeaderNames
    headers: Iterable[tuple[bytes, bytes]] | None
    path: str | None
    query: bytes | str | None
    scheme: str | None
    client: tuple[str, int] | None

    def __call__(self) -> RequestData:
        headers: dict[str, str] = {}
        names = self.names.asgi
        for raw_name, raw_value in self.headers or ():
            if raw_name in names:
                name = names[raw_name]
                value = raw_value.decode("latin-1")
                if name in headers:
                    # HTTP/2 may split cookies over several headers: RFC 9113, section 8.2.3.
                    value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
                headers[name] = value
        query = self.query
        return RequestData(
            headers=headers,
            scheme=_SCHEMES.get(self.scheme, self.scheme or "http"),
            path=quote_path(self.path.encode("utf-8", "surrogateescape")) if self.path else None,
            query=query.decode("latin-1") if isinstance(query, bytes) else query or "",  # Django's AsyncClient has text
            remote_addr=self.client[0] if self.client else None,
        )


def from_any(request: object, names: HeaderNames = DEFAULT_HEADERS) -> RequestData:
    """Return the data of a request of any shape, empty if it is not recognised. Never raises.

    The first of these shapes that matches is used:

    1. text: a raw Cookie header, or a block of header lines, as `str` or `bytes`;
    2. an ASGI scope, a WSGI environ or Django's `META`;
    3. an object that holds one of these: a request of Django, Werkzeug, Flask, Starlette, FastAPI, Bottle, Pyramid,
       Falcon, Quart, Litestar and others;
    4. an event of a serverless platform: AWS API Gateway, load balancer, Lambda@Edge;
    5. `cookies` and `headers`, as members of an object or of a mapping: a request of aiohttp, Sanic, Tornado, Robyn,
       `http.server` or Azure Functions;
    6. a container of headers or of cookies: a mapping, a multi-dict, an object with `get`, a list of pairs, gRPC's
       metadata;
    7. an object with a request as `request` or `context`: a view, a handler, a GraphQL context or info.

    If decoded cookies contain one of the two SessionSight ids, the Cookie header is not read, as in the vendor's own
    SDK (https://github.com/SessionSight/sdks, sdk-shared/src).

    Example:
        >>> from_any([(b"Cookie", b"ss_sid=6f1d2c3b")]).headers
        {'cookie': 'ss_sid=6f1d2c3b'}
    """
    return _from_any(request, names, _MAX_LAYERS) or RequestData()


def _from_any(request: object, names: HeaderNames, layers: int) -> RequestData | None:
    if request is None or layers == 0:
        return None
    for read in _SHAPES:
        try:
            data = read(request, names)
        except Exception:  # noqa: S112  # a foreign object: if it raises, it does not have this shape
            continue
        if data is not None:
            return data
    for name in ("request", "context"):  # of a view or a handler; of GraphQL's info
        inner = item(request, name) if isinstance(request, Mapping) else attribute(request, name)
        if inner is not request and (data := _from_any(inner, names, layers - 1)) is not None:
            return data
    return None


def _from_text(request: object, names: HeaderNames) -> RequestData | None:
    if isinstance(request, bytes | bytearray | memoryview):
        request = bytes(request).decode("latin-1")
    if not isinstance(request, str):
        return None
    lines = [line.partition(":") for line in request.splitlines()]
    pairs = [(name.strip(), value.strip()) for name, colon, value in lines if colon]
    headers = read_headers(pairs, names.asgi) if _HEADER_LINE.search(request) else {"cookie": request}
    return RequestData(headers=headers)


def _from_scope(request: object, names: HeaderNames) -> RequestData | None:
    for scope in (request, attribute(request, "scope")):
        if isinstance(scope, Mapping) and "headers" in scope and item(scope, "type") in {"http", "websocket"}:
            # A handwritten scope may have names in any case, and text instead of bytes.
            headers = read_headers(list(scope["headers"]), names.asgi)
            if headers or scope is request:
                return replace(from_scope({**scope, "headers": ()}, names), headers=headers)
    return None


def _from_environ(request: object, names: HeaderNames) -> RequestData | None:
    if isinstance(meta := attribute(request, "META"), Mapping):
        data, path = from_environ(meta, names), attribute(request, "path")
        # Django stores the decoded path in the server's environ.
        return replace(data, path=quote_path(path.encode("utf-8", "surrogateescape"))) if path else data
    for environ in (request, attribute(request, "environ"), attribute(request, "env")):
        if isinstance(environ, Mapping) and (
            "REQUEST_METHOD" in environ or any(isinstance(name, str) and name.startswith("HTTP_") for name in environ)
        ):
            return from_environ(environ, names)
    return None


def _from_event(request: object, names: HeaderNames) -> RequestData | None:
    """Read an event of AWS, recognised by the members that only such an event has.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/lambda-event-structure.html
    """
    if not isinstance(request, Mapping):
        return None
    if has_pairs(records := item(request, "Records")) and records:
        request = next(iter(records))
    if isinstance(edge := item(request, "cf"), Mapping):
        request = item(edge, "request")
        return _from_parts(None, item(request, "headers"), names)
    if isinstance(several := item(request, "multiValueHeaders"), Mapping) and several:
        return _from_parts(item(request, "cookies"), several, names)
    return None


def _from_mapping(request: object, names: HeaderNames) -> RequestData | None:
    if not isinstance(request, Mapping) or not ("headers" in request or "cookies" in request):
        return None
    return _from_parts(item(request, "cookies"), item(request, "headers"), names)


def _from_object(request: object, names: HeaderNames) -> RequestData | None:
    # Sanic's cookies have every attribute, as empty text.
    cookies, headers = (
        None if isinstance(member, str) and not member else member
        for member in (attribute(request, "cookies"), attribute(request, "headers"))
    )
    return None if cookies is None and headers is None else _from_parts(cookies, headers, names)


def _from_container(request: object, names: HeaderNames) -> RequestData | None:
    if callable(metadata := attribute(request, "invocation_metadata")):  # the context of a gRPC call
        request = metadata()
    data = _from_parts(request, request, names)
    if data.headers or data.cookies:
        return data
    cookies = read_cookies(request, ()) if isinstance(request, Mapping) or has_pairs(request) else None
    # Cookies without the ids may contain the site's own anonymous id; a mapping that contains a request does not.
    return RequestData(cookies=cookies) if cookies and "request" not in cookies else None


def _from_iterator(request: object, names: HeaderNames) -> RequestData | None:
    """Read an iterator of pairs, such as Werkzeug's `headers.items()` and `zip` return."""
    # Last, because the types of Flask's and Quart's proxies are iterators.
    return _from_container(list(islice(request, _MAX_PAIRS)), names) if isinstance(request, Iterator) else None


def _from_parts(cookies: object, headers: object, names: HeaderNames) -> RequestData:
    taken = read_headers(headers, names.asgi) if headers is not None else {}
    if isinstance(cookies, bytes):
        cookies = cookies.decode("latin-1")
    if has_pairs(cookies) and all(isinstance(cookie, str) for cookie in cookies):  # AWS: a list of "name=value"
        cookies = "; ".join(cookies)
    if isinstance(cookies, str):
        return RequestData(headers={**taken, "cookie": cookies} if cookies else taken)
    try:
        decoded = read_cookies(cookies, names.cookies) if cookies is not None else {}
    except Exception:
        decoded = {}
    ids = (decoded.get("ss_sid"), decoded.get("ss_vid"), decoded.get(OPTED_OUT_NAME))
    listed = isinstance(cookies, Mapping) or has_pairs(cookies)
    # An object with `get` may return values of any type; a mapping may contain other things under these names.
    if any(isinstance(value, str) and value for value in ids) or (not listed and any(ids)):
        return RequestData(headers=taken, cookies=decoded)
    return RequestData(headers=taken)


_SHAPES: tuple[Callable[[object, HeaderNames], RequestData | None], ...] = (
    _from_text,
    _from_scope,
    _from_environ,
    _from_event,
    _from_mapping,
    _from_object,
    _from_container,
    _from_iterator,
)
_MAX_LAYERS = 4
_MAX_PAIRS = 1000
# A Cookie header contains neither line ends nor a colon in its first name.
_HEADER_LINE = re.compile(r"^[A-Za-z0-9-]+:[ \t]", re.MULTILINE)
