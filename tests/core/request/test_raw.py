"""Requests of every shape have the same data."""

import io
import wsgiref.headers
from collections.abc import Iterator, Mapping
from email import message_from_string
from email.message import Message
from http.cookies import SimpleCookie
from typing import Any, ClassVar, NamedTuple, cast

import bottle  # type: ignore[import-untyped]
import falcon
import flask
import litestar
import pytest
import quart
from django.conf import UserSettingsHolder, global_settings, settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.http.request import HttpHeaders
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.requests import Request as StarletteRequest
from starlette.websockets import WebSocket
from werkzeug.datastructures import EnvironHeaders, MultiDict
from werkzeug.datastructures import Headers as WerkzeugHeaders
from werkzeug.wrappers import Request as WerkzeugRequest

from sessionsight.request.raw import HEADERS, HeaderNames, RequestData, from_any, from_environ, from_scope
from sessionsight.request.resolve import resolve

COOKIE = "ss_sid=session-1; ss_vid=visitor%2D1"
ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "/shop",
    "PATH_INFO": "/größe/a b".encode().decode("latin-1"),
    "QUERY_STRING": "utm_source=news&token=1",
    "REMOTE_ADDR": "192.0.2.1",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "80",
    "wsgi.url_scheme": "https",
    "wsgi.input": io.BytesIO(),
    "HTTP_HOST": "shop.example",
    "HTTP_COOKIE": COOKIE,
    "HTTP_USER_AGENT": "browser",
    "HTTP_REFERER": "https://blog.example/",
    "HTTP_X_SIGNAL_SESSION_ID": "s1",
    "HTTP_AUTHORIZATION": "secret",
}
SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "scheme": "https",
    "path": "/shop/größe/a b",
    "root_path": "/shop",
    "query_string": b"utm_source=news&token=1",
    "client": ("192.0.2.1", 50000),
    "headers": [
        (b"host", b"shop.example"),
        (b"cookie", b"ss_sid=session-1"),
        (b"cookie", b"ss_vid=visitor%2D1"),
        (b"user-agent", b"browser"),
        (b"referer", b"https://blog.example/"),
        (b"x-signal-session-id", b"s1"),
        (b"authorization", b"secret"),
    ],
}
WEBSOCKET = {**SCOPE, "type": "websocket", "scheme": "wss"}
EXPECTED = RequestData(
    headers={
        "cookie": COOKIE,
        "x-signal-session-id": "s1",
        "host": "shop.example",
        "referer": "https://blog.example/",
        "user-agent": "browser",
    },
    scheme="https",
    path="/shop/gr%C3%B6%C3%9Fe/a%20b",
    query="utm_source=news&token=1",
    remote_addr="192.0.2.1",
)


async def nothing(*args: Any) -> Any:
    raise AssertionError("nobody reads the body")


def ids(request: object) -> tuple[str | None, str | None]:
    found = resolve(from_any(request)).context.sessionsight
    return found.session_id, found.visitor_id


BOTH = ("session-1", "visitor-1")
NEITHER = (None, None)


@pytest.fixture
def _django_settings() -> Iterator[None]:
    """Django's defaults for one test, even if other tests have configured it."""
    before = settings._wrapped
    settings._wrapped = UserSettingsHolder(global_settings)
    yield
    settings._wrapped = before


class Plain:
    """An object with any members."""

    def __init__(self, **members: object) -> None:
        self.__dict__.update(members)


class Getter:
    """An object with `get` that is not a mapping."""

    def __init__(self, **values: object) -> None:
        self._values = values

    def get(self, name: str) -> object:
        return self._values.get(name)


class Raising:
    """An object whose members all raise."""

    def __getattr__(self, name: str) -> object:
        raise AttributeError(name) if name.startswith("__") else RuntimeError(name)


class RaisingGet:
    def get(self, name: str) -> object:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "request_",
    [
        ENVIRON,
        SCOPE,
        WEBSOCKET,
        WerkzeugRequest(ENVIRON),
        flask.Request(ENVIRON),
        HTTPConnection(SCOPE),
        StarletteRequest(SCOPE),
        WebSocket(WEBSOCKET, nothing, nothing),
    ],
)
def test_requests_of_all_frameworks_have_the_same_data(request_: object) -> None:
    assert from_any(request_) == EXPECTED


@pytest.mark.usefixtures("_django_settings")
def test_requests_of_django_have_the_same_data() -> None:
    assert from_any(WSGIRequest(dict(ENVIRON))) == EXPECTED
    assert from_any(ASGIRequest(SCOPE, io.BytesIO())) == EXPECTED


def test_flasks_request_proxy_has_the_data_of_its_request() -> None:
    with flask.Flask("app").request_context(ENVIRON):
        assert from_any(flask.request) == EXPECTED


def test_flasks_request_proxy_is_empty_outside_a_request() -> None:
    assert from_any(flask.request) == RequestData()


@pytest.mark.usefixtures("_django_settings")
def test_a_django_request_without_an_environ_is_read_by_its_meta() -> None:
    request = HttpRequest()
    request.META = {"HTTP_COOKIE": COOKIE}
    assert ids(request) == BOTH


def test_only_known_headers_are_read() -> None:
    assert "authorization" not in from_environ(ENVIRON).headers
    assert "authorization" not in from_scope(SCOPE).headers


def test_additional_headers_are_read_in_any_case() -> None:
    names = HeaderNames("X-Visitor", None)
    assert from_environ({"HTTP_X_VISITOR": "v1"}, names).headers == {"x-visitor": "v1"}
    assert from_scope({"type": "http", "headers": [(b"x-visitor", b"v1")]}, names).headers == {"x-visitor": "v1"}
    assert from_any({"headers": {"X-VISITOR": "v1"}}, names).headers == {"x-visitor": "v1"}


def test_repeated_headers_are_joined_as_servers_do_for_wsgi() -> None:
    headers = [(b"x-forwarded-for", b"192.0.2.7"), (b"x-forwarded-for", b"192.0.2.8")]
    assert from_scope({"type": "http", "headers": headers}).headers == {"x-forwarded-for": "192.0.2.7, 192.0.2.8"}


@pytest.mark.parametrize("empty", [{}, {"PATH_INFO": None, "SCRIPT_NAME": None}])
def test_an_empty_environ_has_no_data(empty: dict[str, Any]) -> None:
    assert from_environ(empty) == RequestData()


def test_a_scope_without_a_client_has_no_address() -> None:
    assert from_scope({**SCOPE, "client": None}).remote_addr is None


@given(st.binary(max_size=40))
def test_wsgi_and_asgi_have_the_same_path(path: bytes) -> None:
    environ = {"PATH_INFO": path.decode("latin-1")}
    scope = {"type": "http", "path": path.decode("utf-8", "surrogateescape")}
    assert from_environ(environ).path == from_scope(scope).path


# --- shapes without a framework, in the order of SessionSight's own resolver ------------------------


@pytest.mark.parametrize(
    "request_",
    [
        COOKIE,
        {"cookie": COOKIE},
        {"Cookie": COOKIE},
        {"COOKIE": COOKIE, "Host": "shop.example"},
        Headers({"Cookie": COOKIE}),
        WerkzeugHeaders({"Cookie": COOKIE}),
        wsgiref.headers.Headers([("Cookie", COOKIE)]),
        {"headers": {"cookie": COOKIE}},
        {"headers": Getter(cookie=COOKIE)},
        Plain(headers={"Cookie": COOKIE}),
        Plain(headers=Getter(cookie=COOKIE)),
        Plain(headers={"cookie": COOKIE}, cookies={}),
        Plain(headers={"cookie": COOKIE}, cookies=RaisingGet()),
        Plain(headers={"cookie": COOKIE}, cookies=Raising()),
        Plain(headers={"cookie": COOKIE}, cookies=Getter(other="x")),
        Plain(headers={"cookie": COOKIE}, cookies={"ss_sid": "", "ss_vid": ""}),
        Plain(headers={"cookie": COOKIE}, cookies=SimpleCookie("other=morsel")),
        {"ss_sid": "session-1", "ss_vid": "visitor-1"},
        {"ss_sid": "session-1", "ss_vid": "visitor-1", "dnt": "1", "host": "a cookie of this name"},
        {"cookies": {"ss_sid": "session-1", "ss_vid": "visitor-1"}},
        Plain(cookies=Getter(ss_sid="session-1", ss_vid="visitor-1")),
        # AWS API Gateway, versions 1 and 2 of the payload:
        # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
        {
            "version": "1.0",
            "httpMethod": "GET",
            "headers": {"Cookie": COOKIE},
            "multiValueHeaders": {"Cookie": [COOKIE]},
        },
        {
            "version": "2.0",
            "rawPath": "/",
            "headers": {"host": "h"},
            "cookies": ["ss_sid=session-1", "ss_vid=visitor-1"],
        },
    ],
)
def test_the_ids_are_found_in_any_shape(request_: object) -> None:
    assert ids(request_) == BOTH


class First(dict[str, list[str]]):
    """Cookies and forms of Sanic: lists of values, of which `get` returns the first, with every attribute."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, [default])[0]

    def __getattr__(self, name: str) -> str:
        return str(self.get(name, ""))


class Storage(dict[str, object]):
    """A request of aiohttp: a mapping of the app's own objects, with headers and cookies as attributes."""

    headers = WerkzeugHeaders([("Cookie", "ss_sid=session-1"), ("Cookie", "ss_vid=visitor%2D1")])
    cookies: ClassVar[dict[str, str]] = {}


class NeedsDefault:
    """An object whose `get` requires a default."""

    def __init__(self, **values: str) -> None:
        self._values = values

    def get(self, name: str, default: str) -> str:
        return self._values.get(name, default)


class Raises:
    """An object without `get` that raises for missing names."""

    def __init__(self, **values: str) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name]


class Jar(Mapping[str, object]):
    """Cookies of requests: iteration yields cookies, `get` takes names."""

    def __init__(self, cookies: list[tuple[str, str]]) -> None:
        self._cookies = dict(cookies)

    def __getitem__(self, name: str) -> object:
        return self._cookies[name]

    def __iter__(self) -> Any:
        return iter(Plain(name=name) for name in self._cookies)

    def __len__(self) -> int:
        return len(self._cookies)


class Pair(NamedTuple):
    """An entry of gRPC's metadata."""

    key: str
    value: str


PLAIN_COOKIE = "ss_sid=session-1; ss_vid=visitor-1"
RAW = [(b"Host", b"shop.example"), (b"Cookie", b"ss_sid=session-1"), (b"cookie", b"ss_vid=visitor%2D1")]
DECODED = [("ss_sid", "session-1"), ("ss_vid", "visitor-1")]
EDGE = {"uri": "/", "method": "GET", "headers": {"cookie": [{"key": "Cookie", "value": COOKIE}]}}
CONTAINERS: dict[str, object] = {
    "a raw Cookie header in bytes": COOKIE.encode(),
    "a raw Cookie header with its name": f"Cookie: {COOKIE}",
    "a block of header lines": f"GET / HTTP/1.1\r\nHost: shop.example\r\nCookie: {COOKIE}\r\n\r\n",
    "a block of header lines in bytes": f"Host: shop.example\r\ncookie: {COOKIE}".encode(),
    "ASGI's raw headers": RAW,
    "raw headers as a tuple": tuple(RAW),
    "pairs of text": [("Host", "shop.example"), ("COOKIE", COOKIE)],
    "lists of two": [["Cookie", COOKIE]],
    "the items of a mapping": {"Cookie": COOKIE}.items(),
    "cookies as pairs": DECODED,
    "cookies as objects with name and value": [{"name": name, "value": value} for name, value in DECODED],
    "a member with raw headers": {"headers": RAW},
    "a member with cookies as pairs": {"cookies": DECODED},
    "a member with a raw header": {"cookies": COOKIE},
    "a member with a raw header in bytes": {"cookies": COOKIE.encode()},
    "headers in bytes": {b"Cookie": COOKIE.encode()},
    "headers with several values": {"Cookie": ["ss_sid=session-1", "ss_vid=visitor%2D1"]},
    "cookies with several values": {"ss_sid": ["old", "session-1"], "ss_vid": ["visitor-1"]},
    "cookies in bytes": {b"ss_sid": b"session-1", b"ss_vid": b"visitor-1"},
    "http.cookies": SimpleCookie("ss_sid=session-1; ss_vid=visitor-1"),
    "Tornado's handler": Plain(request=Plain(headers={"Cookie": COOKIE}, cookies=SimpleCookie())),
    "Tornado's cookies": Plain(cookies=SimpleCookie("ss_sid=session-1; ss_vid=visitor-1"), headers={}),
    "Sanic's cookies": First(ss_sid=["session-1"], ss_vid=["visitor-1"]),
    "Sanic's request": Plain(cookies=First(ss_sid=["session-1"], ss_vid=["visitor-1"]), headers={"cookie": "x=1"}),
    "a member with Sanic's cookies": {"cookies": First(ss_sid=["session-1"], ss_vid=["visitor-1"])},
    "Werkzeug's multi-dict": MultiDict([*DECODED, ("ss_sid", "second")]),
    "Werkzeug's headers of an environ": EnvironHeaders(ENVIRON),
    "aiohttp's request": Storage(user="u1"),
    "aiohttp's view": Plain(request=Storage()),
    "Django's headers": HttpHeaders(ENVIRON),
    "Django's META": {"HTTP_COOKIE": COOKIE, "HTTP_X_SIGNAL_WINDOW_ID": "w"},
    "CherryPy's request": Plain(headers={"Cookie": COOKIE}, cookie=SimpleCookie(COOKIE), params={}),
    "http.server's handler": Plain(headers=message_from_string(f"Cookie: {COOKIE}\n\n"), path="/", requestline="GET /"),
    "two headers in a message": message_from_string("Cookie: ss_sid=session-1\nCookie: ss_vid=visitor-1\n\n"),
    "Bottle's request": bottle.BaseRequest(ENVIRON),
    "Bottle's headers": bottle.BaseRequest(ENVIRON).headers,
    "Bottle's cookies": bottle.BaseRequest({"HTTP_COOKIE": "ss_sid=session-1; ss_vid=visitor-1"}).cookies,
    "Falcon's request": falcon.Request({**ENVIRON, "wsgi.errors": io.StringIO()}),
    "Falcon's headers": falcon.Request({**ENVIRON, "wsgi.errors": io.StringIO()}).headers,
    "Litestar's request": litestar.Request(cast("Any", SCOPE)),
    "Litestar's headers": litestar.Request(cast("Any", SCOPE)).headers,
    "Starlette's cookies": StarletteRequest({**SCOPE, "headers": [(b"cookie", PLAIN_COOKIE.encode())]}).cookies,
    "Azure's request": Plain(headers=Headers({"Cookie": COOKIE}), url="https://shop.example/", params={}),
    "gRPC's metadata": (Pair("user-agent", "grpc"), Pair("cookie", COOKIE)),
    "gRPC's context": Plain(invocation_metadata=lambda: (Pair("cookie", COOKIE),)),
    "a generator of pairs": (pair for pair in [("Cookie", COOKIE)]),
    "a jar": Jar([("ss_sid", "session-1"), ("ss_vid", "visitor-1")]),
    "a scope with text in any case": {"type": "http", "headers": [("Cookie", COOKIE)]},
    "a request whose scope is used up": Plain(scope={"type": "http", "headers": []}, headers={"cookie": COOKIE}),
    "the info of GraphQL": Plain(context={"request": WerkzeugRequest(ENVIRON)}),
    "the info of Graphene": Plain(context=WerkzeugRequest(ENVIRON)),
    "a context of GraphQL": {"request": WerkzeugRequest(ENVIRON), "user": None},
    "an object with a GraphQL context's request": Plain(request=StarletteRequest(SCOPE)),
    "get that needs a default": Plain(cookies=NeedsDefault(ss_sid="session-1", ss_vid="visitor-1")),
    "headers whose get needs a default": NeedsDefault(cookie=COOKIE),
    "headers that raise for a missing name": Plain(headers=Raises(cookie=COOKIE)),
    "Lambda, payload 1.0, several headers": {
        "httpMethod": "GET", "headers": {"Cookie": "ss_vid=visitor-1"},
        "multiValueHeaders": {"Cookie": ["ss_sid=session-1", "ss_vid=visitor-1"]},
    },
    "Lambda, payload 1.0": {"httpMethod": "GET", "headers": {"Cookie": COOKIE}, "multiValueHeaders": None},
    "a load balancer, several headers": {"requestContext": {"elb": {}}, "multiValueHeaders": {"cookie": [COOKIE]}},
    "a load balancer": {"requestContext": {"elb": {}}, "headers": {"cookie": COOKIE}},
    "VPC Lattice": {"version": "2.0", "headers": {"cookie": ["ss_sid=session-1", "ss_vid=visitor-1"]}},
    "Lambda@Edge": {"Records": [{"cf": {"request": EDGE}}]},
    "Lambda@Edge, the record": {"cf": {"request": EDGE}},
    "Lambda@Edge, the request": EDGE,
    "CloudFront's cookies": {"cookies": {"ss_sid": {"value": "session-1"}, "ss_vid": {"value": "visitor-1"}}},
    "AppSync": {"request": {"headers": {"cookie": COOKIE}}, "info": {}},
}  # fmt: skip


@pytest.mark.usefixtures("_django_settings")
@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_the_ids_are_found_in_containers_of_frameworks(container: object) -> None:
    assert ids(container) == BOTH


def test_pairs_may_come_from_an_iterator_of_any_kind() -> None:
    assert ids(iter(RAW)) == ids(zip(*zip(*DECODED, strict=True), strict=True)) == ids(map(tuple, RAW)) == BOTH


@pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning")  # imported by WebOb
def test_pyramids_request_and_its_parts_are_recognised() -> None:
    from webob import Request  # type: ignore[import-untyped]  # the base of Pyramid's

    request = Request({**ENVIRON, "HTTP_COOKIE": PLAIN_COOKIE})
    assert ids(request) == ids(request.headers) == ids(request.cookies) == BOTH


async def test_quarts_request_and_its_parts_are_recognised() -> None:
    async with quart.Quart("app").test_request_context("/", headers={"Cookie": "ss_sid=session-1; ss_vid=visitor-1"}):
        assert ids(quart.request) == ids(quart.request.headers) == ids(quart.request.cookies) == BOTH


def test_the_sites_anonymous_id_is_found_in_any_container() -> None:
    names = HeaderNames("X-My-Id", cookie="my_id")
    for cookies in ({"my_id": "a1"}, SimpleCookie("my_id=a1"), First(my_id=["a1"]), [("my_id", "a1")]):
        assert resolve(from_any(cookies, names), anonymous_id_cookie="my_id").context.anonymous_id == "a1"
    data = from_any(Plain(cookies=Getter(my_id="a1", ss_sid="s1")), names)
    assert resolve(data, anonymous_id_cookie="my_id").context.anonymous_id == "a1"
    assert from_any([(b"x-my-id", b"a1")], names).headers == {"x-my-id": "a1"}


def test_a_circular_request_has_no_data() -> None:
    circular = Plain()
    circular.request = Plain(request=circular)  # type: ignore[attr-defined]
    assert ids(circular) == NEITHER


def test_a_message_of_the_standard_library_is_recognised() -> None:
    message = Message()
    message["Cookie"] = COOKIE
    assert ids(Plain(headers=message)) == BOTH
    assert ids(message) == BOTH


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        ({"ss_sid": "mine"}, ("mine", None)),
        ({"ss_vid": "mine"}, (None, "mine")),
        (Getter(ss_sid="mine"), ("mine", None)),
        (Getter(ss_sid=5), NEITHER),
        ({"ss_sid": 5}, BOTH),
        ({"ss_sid": 5, "ss_vid": "mine"}, (None, "mine")),
        (["ss_sid=mine"], ("mine", None)),
        (SimpleCookie("ss_sid=mine"), ("mine", None)),
        ([("ss_sid", "first"), ("ss_sid", "mine")], ("mine", None)),
        ("ss_sid=mine", ("mine", None)),
    ],
)
def test_decoded_cookies_with_one_id_override_the_header(cookies: object, found: tuple[str | None, str | None]) -> None:
    assert ids({"cookies": cookies, "headers": {"cookie": COOKIE}}) == found
    assert ids(Plain(cookies=cookies, headers={"cookie": COOKIE})) == found


def test_decoded_cookies_are_not_decoded_again() -> None:
    data = from_any({"cookies": {"ss_sid": "a%2Db"}})
    assert data.cookies == {"ss_sid": "a%2Db"}


def test_the_lower_case_spelling_of_a_header_takes_precedence() -> None:
    assert ids({"headers": {"Cookie": "ss_sid=upper; ss_vid=upper", "cookie": "ss_sid=lower"}}) == ("lower", None)
    assert ids({"headers": {"cookie": "ss_sid=lower", "Cookie": "ss_vid=upper"}}) == ("lower", None)
    assert ids({"headers": {"cookie": "", "Cookie": "ss_sid=upper"}}) == ("upper", None)


def test_cookies_by_name_contain_the_sites_anonymous_id() -> None:
    data = from_any({"my_id": "a1"})
    assert resolve(data, anonymous_id_cookie="my_id").context.anonymous_id == "a1"


@pytest.mark.parametrize(
    "request_",
    [
        None, 0, 1, 2.5, True, False, b"x", [], (), object(), object, "", {}, Raising(), RaisingGet(),
        {5: 6}, {"headers": 5}, {"cookies": 5}, {"headers": None, "cookies": None}, {"type": "http", "headers": 5},
        {"type": [], "headers": {}}, {"REQUEST_METHOD": "GET", "PATH_INFO": 5}, {"HTTP_COOKIE": "x", "PATH_INFO": 5},
        Plain(scope={"type": "http", "headers": [5]}), Plain(environ=5, META=5, scope=5), {"cookies": [5, None]},
    ],
)  # fmt: skip
def test_unrecognised_objects_have_no_ids_and_do_not_raise(request_: object) -> None:
    assert ids(request_) == NEITHER


class RaisingMapping(Mapping[str, object]):
    def __getitem__(self, key: str) -> object:
        raise RuntimeError(key)

    def __iter__(self) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("holder", [RaisingMapping(), Plain(cookies=RaisingMapping()), {"headers": RaisingMapping()}])
def test_a_mapping_that_raises_has_no_ids(holder: object) -> None:
    assert ids(holder) == NEITHER


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["headers", "cookies", "type", "cookie"]) | st.text(), inner)
    ),
)


@given(json)
def test_from_any_never_raises(value: object) -> None:
    ids(value)


def test_each_header_of_an_environ_has_its_own_value() -> None:
    names = HeaderNames("X-Visitor", "X-Shop")
    expected = {name: f"value of {name}" for name in (*HEADERS, "x-visitor", "x-shop")}
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in expected.items()}
    assert from_environ(environ, names).headers == expected
