from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi import Request as FastAPIRequest
from fastapi import WebSocket as FastAPIWebSocket
from starlette.applications import Starlette
from starlette.authentication import BaseUser, SimpleUser, UnauthenticatedUser
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient

from sessionsight import Analytics, Client, ConfigurationError, NoClientError, Settings, current
from sessionsight.capture.current import default_client, set_default_client
from sessionsight_asgi import AnalyticsMiddleware, get_analytics
from tests.adapters.recording import COOKIE, Recorder
from tests.support.server import PATIENCE

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"ok"}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def scope(kind: str = "http", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "method": "GET",
        "path": "/orders/1",
        "query_string": b"",
        "headers": [(b"host", b"shop.example"), (b"cookie", COOKIE.encode())],
        **more,
    }


async def nothing_to_receive() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def ignore(message: Any) -> None:
    pass


def responding(*messages: dict[str, Any], capture: str = "seen") -> Any:
    """An app that captures one event and sends these messages."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture(capture)
        for message in messages:
            await send(message)

    return app


async def handed_over_around_each_message(app: Any, recorder: Recorder) -> list[tuple[str, int]]:
    """Runs a request; tells for each message how much had been handed over when the server got it."""
    seen: list[tuple[str, int]] = []

    async def send(message: Any) -> None:
        seen.append((message["type"].rpartition(".")[2], recorder.handed_over))

    async def watched(inner_scope: Any, receive: Any, inner_send: Any) -> None:
        await app(inner_scope, receive, inner_send)
        seen.append(("app returned", recorder.handed_over))

    await AnalyticsMiddleware(watched, recorder.client)(scope(), nothing_to_receive, send)
    return seen


# --- The end of the response ---------------------------------------------------------------------


async def test_records_are_handed_over_once_the_last_body_message_is_out(recorder: Recorder) -> None:
    app = responding(START, {**BODY, "more_body": True}, BODY)
    assert await handed_over_around_each_message(app, recorder) == [
        ("start", 0),
        ("body", 0),
        ("body", 0),
        ("app returned", 1),
    ]
    assert recorder.names() == ["seen"]


@pytest.mark.parametrize(
    "last",
    [
        {"type": "http.response.pathsend", "path": "/tmp/file"},
        {"type": "http.response.zerocopysend", "file": 3},
    ],
)
async def test_a_file_sent_by_the_server_ends_the_response(last: dict[str, Any], recorder: Recorder) -> None:
    assert (await handed_over_around_each_message(responding(START, last), recorder))[-2:] == [
        (last["type"].rpartition(".")[2], 0),
        ("app returned", 1),
    ]


async def test_announced_trailers_come_before_the_end(recorder: Recorder) -> None:
    trailers = {"type": "http.response.trailers", "headers": []}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("seen")
        await send({**START, "trailers": True})
        await send(BODY)
        after_body = recorder.handed_over
        await send({**trailers, "more_trailers": True})
        await send(trailers)
        assert (after_body, recorder.handed_over) == (0, 1)

    await AnalyticsMiddleware(app, recorder.client)(scope(), nothing_to_receive, ignore)
    assert recorder.names() == ["seen"]


def test_background_tasks_run_after_the_end_and_capture_at_once(recorder: Recorder) -> None:
    seen: list[int] = []

    def endpoint(request: Request) -> PlainTextResponse:
        request.analytics.capture("viewed")  # type: ignore[attr-defined]

        def task() -> None:
            seen.append(recorder.handed_over)
            request.analytics.capture("mailed")  # type: ignore[attr-defined]
            seen.append(recorder.handed_over)

        return PlainTextResponse("ok", background=BackgroundTask(task))

    client = TestClient(starlette(recorder, Route("/", endpoint)), headers={"cookie": COOKIE})
    assert client.get("/").text == "ok"
    assert seen == [1, 2]
    assert recorder.names() == ["viewed", "mailed"]


def test_a_file_response_ends_like_any_other(recorder: Recorder, tmp_path: Any) -> None:
    file = tmp_path / "report.txt"
    file.write_text("report")

    def endpoint(request: Request) -> FileResponse:
        request.analytics.capture("downloaded")  # type: ignore[attr-defined]
        return FileResponse(file)

    client = TestClient(starlette(recorder, Route("/", endpoint)), headers={"cookie": COOKIE})
    assert client.get("/").text == "report"
    assert recorder.names() == ["downloaded"]


async def test_an_exception_passes_through_and_keeps_what_was_captured(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("seen")
        raise LookupError

    with pytest.raises(LookupError):
        await AnalyticsMiddleware(app, recorder.client)(scope(), nothing_to_receive, ignore)
    assert recorder.names() == ["seen"]


async def test_a_client_that_has_gone_keeps_what_was_captured(recorder: Recorder) -> None:
    async def send(message: Any) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await AnalyticsMiddleware(responding(START, BODY), recorder.client)(scope(), nothing_to_receive, send)
    assert recorder.names() == ["seen"]


async def test_a_cancelled_request_keeps_what_was_captured(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("seen")
        await anyio.sleep_forever()

    with anyio.move_on_after(0.05):
        await AnalyticsMiddleware(app, recorder.client)(scope(), nothing_to_receive, ignore)
    assert recorder.names() == ["seen"]


async def test_an_app_that_answers_nothing_keeps_what_was_captured(recorder: Recorder) -> None:
    await AnalyticsMiddleware(responding(), recorder.client)(scope(), nothing_to_receive, ignore)
    assert recorder.names() == ["seen"]


async def test_inline_delivery_is_over_before_the_last_message_and_leaves_the_event_loop_alone(
    inline: Recorder,
) -> None:
    arrived: list[list[str]] = []

    async def other_work() -> None:
        for _ in range(5):
            await anyio.sleep(0.005)
        inline.open.set()  # only now the vendor answers: a loop that stood still would never come here

    async def send(message: Any) -> None:
        arrived.append(inline.arrived.copy())

    inline.open.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other_work)
        await AnalyticsMiddleware(responding(START, BODY), inline.client)(scope(), nothing_to_receive, send)
    assert arrived == [[], ["seen"]]


async def test_inline_delivery_makes_no_request_wait_that_captured_nothing() -> None:
    inline = Recorder(flush="inline", flush_timeout=3600.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inline.client.bind(user_id="somebody else").capture("of_another_request")
        inline.open.clear()
        await send(START)
        await send(BODY)

    await AnalyticsMiddleware(app, inline.client)(scope(), nothing_to_receive, ignore)  # for an hour, if it waited
    assert inline.handed_over == 1
    inline.open.set()
    assert inline.client.shutdown(PATIENCE)


# --- Scopes --------------------------------------------------------------------------------------


async def test_scopes_of_other_types_pass_untouched(recorder: Recorder) -> None:
    seen: list[Any] = []

    async def app(*parts: Any) -> None:
        seen.extend(parts)

    other = {"type": "mqtt"}
    await AnalyticsMiddleware(app, recorder.client)(other, nothing_to_receive, ignore)
    assert seen == [other, nothing_to_receive, ignore]
    assert other == {"type": "mqtt"}


def lifespan_app(on_shutdown: Callable[[], object]) -> Any:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield {"ready": True}
        on_shutdown()

    return Starlette(
        lifespan=lifespan, routes=[Route("/", lambda request: PlainTextResponse(str(request.state.ready)))]
    )


async def run_lifespan(app: Any) -> list[str]:
    inbox = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "state": {}}, receive, send)
    return sent


async def test_delivery_is_waited_for_when_the_server_shuts_down(recorder: Recorder) -> None:
    recorder.open.clear()
    threading.Timer(0.1, recorder.open.set).start()
    app = lifespan_app(lambda: recorder.client.bind(user_id="user_1").capture("stopped"))
    assert await run_lifespan(AnalyticsMiddleware(app, recorder.client)) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert recorder.arrived == ["stopped"]


async def test_a_silent_vendor_does_not_hold_up_the_shutdown_and_what_is_left_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder(shutdown_timeout=0.1)
    recorder.open.clear()
    app = lifespan_app(lambda: recorder.client.bind(user_id="user_1").capture("stopped"))
    sent = await run_lifespan(AnalyticsMiddleware(app, recorder.client))  # forever, if it waited for the vendor
    assert sent[-1] == "lifespan.shutdown.complete"
    assert "the server stops while records are pending, which are lost with the process: 1 for " in caplog.text
    recorder.open.set()
    assert recorder.client.shutdown(5)


def test_lifespan_state_reaches_the_requests(recorder: Recorder) -> None:
    with TestClient(AnalyticsMiddleware(lifespan_app(lambda: None), recorder.client)) as client:
        assert client.get("/").text == "True"


async def test_what_a_websocket_captures_is_handed_over_at_once(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert current() is scope["analytics"]
        for number in range(1, 4):
            scope["analytics"].capture("message", {"number": number})
            assert recorder.handed_over == number

    await AnalyticsMiddleware(app, recorder.client)(scope("websocket"), nothing_to_receive, ignore)
    assert recorder.names() == ["message"] * 3
    assert recorder.events()[0]["url"] == "http://shop.example/orders/1"


async def test_analytics_are_attached_once_however_often_the_middleware_stands(recorder: Recorder) -> None:
    other = Recorder()
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["analytics"])
        scope["analytics"].capture("seen")

    inner = AnalyticsMiddleware(app, other.client)

    async def middle(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["analytics"])
        await inner(scope, receive, send)

    await AnalyticsMiddleware(middle, recorder.client)(scope(), nothing_to_receive, ignore)
    assert seen[0] is seen[1]
    assert (recorder.names(), other.names()) == (["seen"], [])
    other.client.shutdown()


async def test_current_finds_the_analytics_during_the_request_and_not_after(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert current() is scope["analytics"]
        assert await anyio.to_thread.run_sync(current) is scope["analytics"]

    await AnalyticsMiddleware(app, recorder.client)(scope(), nothing_to_receive, ignore)
    outside = current()
    outside.capture("outside", user_id="user_1")
    assert recorder.names() == ["outside"]


# --- Starlette and FastAPI -----------------------------------------------------------------------


def starlette(recorder: Recorder, *routes: Any, **options: Any) -> Starlette:
    app = Starlette(routes=routes, **options)
    app.add_middleware(AnalyticsMiddleware, client=recorder.client)
    return app


def test_requests_and_websockets_have_analytics_as_an_attribute(recorder: Recorder) -> None:
    def endpoint(request: Request) -> PlainTextResponse:
        assert request.analytics is request.scope["analytics"]  # type: ignore[attr-defined]
        request.analytics.capture("request")  # type: ignore[attr-defined]
        return PlainTextResponse("ok")

    async def talk(websocket: Any) -> None:
        await websocket.accept()
        websocket.analytics.capture("websocket")
        await websocket.close()

    client = TestClient(
        starlette(recorder, Route("/", endpoint), WebSocketRoute("/ws", talk)), headers={"cookie": COOKIE}
    )
    client.get("/")
    with client.websocket_connect("/ws"):
        pass
    assert recorder.names() == ["request", "websocket"]


def test_the_attribute_cannot_be_set(recorder: Recorder) -> None:
    AnalyticsMiddleware(ignore, recorder.client)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        Request(scope()).analytics = None  # type: ignore[attr-defined]


def test_a_request_that_the_middleware_does_not_serve_says_what_to_do(recorder: Recorder) -> None:
    AnalyticsMiddleware(ignore, recorder.client)  # type: ignore[arg-type]
    with pytest.raises(NoClientError, match=r"add_middleware\(sessionsight_asgi\.AnalyticsMiddleware\)"):
        _ = Request(scope()).analytics  # type: ignore[attr-defined]


async def test_the_dependency_says_the_same() -> None:
    with pytest.raises(NoClientError, match="add_middleware"):
        await get_analytics(HTTPConnection(scope()))


def test_the_attribute_is_installed_once(recorder: Recorder) -> None:
    AnalyticsMiddleware(ignore, recorder.client)  # type: ignore[arg-type]
    first = vars(HTTPConnection)["analytics"]
    AnalyticsMiddleware(ignore, recorder.client)  # type: ignore[arg-type]
    assert vars(HTTPConnection)["analytics"] is first


def test_an_attribute_of_the_sites_own_class_goes_first(recorder: Recorder) -> None:
    class OwnRequest(Request):
        analytics = "their own"

    AnalyticsMiddleware(ignore, recorder.client)  # type: ignore[arg-type]
    assert OwnRequest(scope()).analytics == "their own"


def test_fastapi_injects_analytics_into_requests_and_websockets(recorder: Recorder) -> None:
    app = FastAPI()
    app.add_middleware(AnalyticsMiddleware, client=recorder.client)

    @app.get("/async")
    async def in_the_loop(analytics: Annotated[Analytics, Depends(get_analytics)]) -> None:
        analytics.capture("async")

    @app.get("/thread")
    def in_a_thread(analytics: Annotated[Analytics, Depends(get_analytics)]) -> None:
        assert current() is analytics
        analytics.capture("thread")

    @app.websocket("/ws")
    async def talk(websocket: FastAPIWebSocket, analytics: Annotated[Analytics, Depends(get_analytics)]) -> None:
        await websocket.accept()
        analytics.capture("websocket")
        await websocket.close()

    client = TestClient(app, headers={"cookie": COOKIE})
    assert client.get("/async").status_code == client.get("/thread").status_code == 200
    with client.websocket_connect("/ws"):
        pass
    assert recorder.names() == ["async", "thread", "websocket"]


def test_streams_and_middlewares_of_the_base_class_find_the_current_analytics(recorder: Recorder) -> None:
    async def dispatch(request: Request, call_next: Any) -> Any:
        current().capture("middleware")
        return await call_next(request)

    def endpoint(request: Request) -> StreamingResponse:
        def chunks() -> Any:
            for _ in range(2):
                current().capture("chunk")
                yield b"x"

        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    app.add_middleware(AnalyticsMiddleware, client=recorder.client)
    assert TestClient(app, headers={"cookie": COOKIE}).get("/").text == "xx"
    assert recorder.names() == ["middleware", "chunk", "chunk"]


class User(BaseUser):
    """Authenticated; what else is known of it is set by the test."""

    is_authenticated = True
    display_name = "Ada"


class UserWithId(User):
    id = 7


class UserWithEmptyIdentity(User):
    identity = ""
    pk = 9


@pytest.mark.parametrize(
    ("user", "found"),
    [
        (SimpleUser("ada"), "ada"),
        (UserWithId(), "7"),
        (UserWithEmptyIdentity(), "9"),
        (User(), None),
        (UnauthenticatedUser(), None),
        (None, None),
        ({"name": "ada"}, None),
    ],
    ids=["identity", "id", "pk", "only a display name", "unauthenticated", "none", "no user at all"],
)
async def test_the_user_is_whoever_the_authentication_has_put_into_the_scope(
    user: object, found: str | None, recorder: Recorder
) -> None:
    await AnalyticsMiddleware(responding(START, BODY), recorder.client)(scope(user=user), nothing_to_receive, ignore)
    assert recorder.users() == [found]


async def test_a_scope_without_user_has_none(recorder: Recorder) -> None:
    await AnalyticsMiddleware(responding(START, BODY), recorder.client)(scope(), nothing_to_receive, ignore)
    assert recorder.users() == [None]


def route_of(app: Any, path: str, **options: Any) -> str | None:
    """The route in the context, as the endpoint sees it."""
    route: str | None = TestClient(app, **options).get(path).json()
    return route


def tell_route(request: FastAPIRequest) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(request.scope["analytics"].context.page.route)


def test_the_route_is_the_template_that_matched(recorder: Recorder) -> None:
    inner = Starlette(routes=[Route("/orders/{id:int}", tell_route)])
    app = starlette(
        recorder,
        Route("/orders/{id}", tell_route),
        Mount("/router", Router([Route("/orders/{id}", tell_route)])),
        Mount("/app", inner),
    )
    assert route_of(app, "/orders/1") == "/orders/{id}"
    assert route_of(app, "/router/orders/1") == "/router/orders/{id}"
    assert route_of(app, "/app/orders/1") == "/app/orders/{id:int}"


def test_the_prefix_of_the_deployment_is_not_part_of_the_route(recorder: Recorder) -> None:
    app = starlette(recorder, Route("/orders/{id}", tell_route), Mount("/m", Router([Route("/{id}", tell_route)])))
    assert route_of(app, "/proxied/orders/1", root_path="/proxied") == "/orders/{id}"
    assert route_of(app, "/proxied/m/1", root_path="/proxied") == "/m/{id}"


def test_the_route_of_fastapi_has_the_prefixes_of_its_routers(recorder: Recorder) -> None:
    leaf, middle, app = APIRouter(prefix="/orders"), APIRouter(prefix="/v1"), FastAPI()
    leaf.get("/{id}")(tell_route)
    middle.include_router(leaf)
    app.include_router(middle, prefix="/api")
    app.get("/direct/{id}")(tell_route)
    mounted = FastAPI()
    mounted.include_router(leaf)
    app.mount("/mounted", mounted)
    app.add_middleware(AnalyticsMiddleware, client=recorder.client)
    assert route_of(app, "/api/v1/orders/1") == "/api/v1/orders/{id}"
    assert route_of(app, "/direct/1") == "/direct/{id}"
    assert route_of(app, "/mounted/orders/1") == "/mounted/orders/{id}"


@pytest.mark.parametrize(("kind", "shape"), [("http", Request), ("websocket", HTTPConnection)])
async def test_the_sites_own_functions_get_the_request_they_know(kind: str, shape: type) -> None:
    seen: list[Any] = []

    def should_capture(request: Any) -> bool:
        seen.append(request)
        return True

    recorder = Recorder(should_capture=should_capture)
    await AnalyticsMiddleware(responding(), recorder.client)(scope(kind), nothing_to_receive, ignore)
    assert seen[0]["path"] == seen[0].url.path == "/orders/1"
    assert type(seen[0]) is shape
    recorder.client.shutdown()


# --- Configuration -------------------------------------------------------------------------------


def test_without_arguments_the_environment_configures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYSE_KEY", "pk_live_1")
    middleware = AnalyticsMiddleware(ignore)  # type: ignore[arg-type]
    assert [destination.name for destination in middleware.client.settings.destinations] == ["analyse"]


def test_options_are_settings_by_name() -> None:
    middleware = AnalyticsMiddleware(ignore, destinations={}, consent="gpc", disabled=True)  # type: ignore[arg-type]
    assert middleware.client.settings.consent == "gpc"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dissabled": True}, r"AnalyticsMiddleware: unknown option 'dissabled'; did you mean 'disabled'\?"),
        ({"settings": Settings(disabled=True), "disabled": True}, "not both"),
        ({"consent": "perhaps"}, "consent must be one of"),
        ({"settings": {"disabled": True}}, "settings must be Settings, .* not a dict"),
        ({"client": Settings()}, "AnalyticsMiddleware: client must be a Client, not a Settings"),
    ],
)
def test_wrong_configuration_is_said_when_the_app_is_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AnalyticsMiddleware(ignore, **arguments)  # type: ignore[arg-type]


def test_a_given_client_takes_no_settings(recorder: Recorder) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        AnalyticsMiddleware(ignore, recorder.client, strict=True)  # type: ignore[arg-type]


def test_each_middleware_has_a_client_of_its_own_and_the_first_serves_the_process() -> None:
    first = AnalyticsMiddleware(ignore, disabled=True)  # type: ignore[arg-type]
    second = AnalyticsMiddleware(ignore, disabled=True)  # type: ignore[arg-type]
    assert first.client is not second.client
    assert default_client() is first.client


def test_a_client_that_the_site_has_chosen_for_the_process_stays(recorder: Recorder) -> None:
    set_default_client(recorder.client)
    AnalyticsMiddleware(ignore, disabled=True)  # type: ignore[arg-type]
    assert default_client() is recorder.client


# --- The host comes first --------------------------------------------------------------------------


class ExplodingUser:
    @property
    def is_authenticated(self) -> bool:
        raise RuntimeError


async def test_in_production_no_internal_error_reaches_the_app(caplog: pytest.LogCaptureFixture) -> None:
    def explode(request: object) -> bool:
        raise RuntimeError

    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    recorder = Recorder(strict=False, should_capture=explode)
    odd = scope(user=ExplodingUser(), client=object(), route=object(), root_path=3)
    await AnalyticsMiddleware(responding(START, BODY), recorder.client)(odd, nothing_to_receive, send)
    assert sent == ["http.response.start", "http.response.body"]
    assert "user" in caplog.text
    recorder.client.shutdown()


# --- Wrong settings ----------------------------------------------------------------------------------------

WRONG: dict[str, Any] = {"destinations": {"signal": {"api_key": None}}}
SAID = "destination 'signal': api_key is missing or blank"


def test_a_wrong_setting_around_an_app_is_raised_at_once() -> None:
    apps: list[Any] = [ignore, Starlette(), AnalyticsMiddleware(Starlette(), Client(Settings()))]
    for app in apps:
        with pytest.raises(ConfigurationError, match=SAID):
            AnalyticsMiddleware(app, **WRONG)


@pytest.mark.parametrize("kind", [Starlette, FastAPI])
async def test_a_wrong_setting_of_an_added_middleware_fails_the_apps_start(kind: type[Starlette]) -> None:
    app = kind()
    app.add_middleware(AnalyticsMiddleware, **WRONG)
    app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    with pytest.raises(ConfigurationError, match=SAID):
        await app({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert SAID in sent[0]["message"]


def test_without_a_start_each_request_fails_and_the_log_says_why_once(caplog: pytest.LogCaptureFixture) -> None:
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("ok"))])
    app.add_middleware(AnalyticsMiddleware, **WRONG)
    browser = TestClient(app, raise_server_exceptions=False)
    assert [browser.get("/").status_code for _ in range(2)] == [500, 500]
    [message] = [record.getMessage() for record in caplog.records if record.name == "sessionsight"]
    assert message.startswith(SAID)
    with pytest.raises(ConfigurationError, match=SAID):
        TestClient(app).get("/")
