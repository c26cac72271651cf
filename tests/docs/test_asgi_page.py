"""docs/asgi.md runs, and the warning about CORS comes when it says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import sessionsight
from sessionsight import Client, Settings
from sessionsight.capture.current import default_client, set_default_client
from sessionsight_asgi import AnalyticsMiddleware
from tests.adapters.recording import Recorder
from tests.support.pages import block, blocks, run

PAGE = "docs/asgi.md"
NAMES = ["program", "types", "cors", "wrapped", "quart"]


@pytest.fixture(autouse=True)
def _no_default_client(_unreachable_vendors: None) -> None:
    """Each test's middleware is the first, which gives the process its client."""
    set_default_client(None)


def captured() -> dict[str, int]:
    client = default_client()
    assert isinstance(client, Client)
    return {name: lane.captured for name, lane in client.stats().lanes.items()}


def test_every_python_block_of_the_page_is_run_here() -> None:
    assert [name for name, _ in blocks(PAGE)] == NAMES


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_program_captures_in_views_tasks_streams_websockets_and_error_handlers(backend: Any) -> None:
    browser = TestClient(run(block(PAGE, "program"))["app"], backend=backend)
    assert browser.post("/orders").json() == {"order_id": "ord_1"}
    assert captured()["signal"] == 3
    assert browser.get("/export").text == "order\nord_1\n"
    assert captured()["signal"] == 4
    with browser.websocket_connect("/chat"):
        pass
    assert captured()["signal"] == 5
    assert browser.get("/orders/ord_2").text == "Not here"
    assert captured()["signal"] == 6


def test_an_annotated_request_is_fastapis_own() -> None:
    assert TestClient(run(block(PAGE, "types"))["app"]).post("/refunds").json() == "Refunded"
    assert captured() == {"analyse": 1}


def test_the_cors_line_lets_the_headers_in(caplog: pytest.LogCaptureFixture) -> None:
    browser = TestClient(run(block(PAGE, "cors"))["app"])
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": ", ".join(SIGNAL),
    }
    assert browser.options("/orders", headers=asked).status_code == 200
    assert browser.get("/orders", headers=dict.fromkeys(SIGNAL, "id-1")).text == "ok"
    assert captured() == {"signal": 1}
    assert "CORSMiddleware" not in caplog.text


@pytest.mark.parametrize("name", ["wrapped", "quart"])
def test_other_frameworks_are_wrapped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("example")  # Litestar looks up the names of a handler's module
    monkeypatch.setitem(sys.modules, "example", module)
    app = run(block(PAGE, name), vars(module))["app"]
    with TestClient(app) as browser:
        assert browser.get("/").text == "Welcome"
        sessionsight.get_client().shutdown(timeout=0)  # else the end of the app waits for a delivery that does not come
    assert captured() == {"analyse": 1}


def test_a_handler_of_any_exception_has_the_requests_analytics_but_they_are_current_no_more() -> None:
    seen = []

    async def fail(request: Request) -> None:
        raise LookupError

    async def handle(request: Request, error: Exception) -> PlainTextResponse:
        request.analytics.capture("failed", user_id="user_1")  # type: ignore[attr-defined]
        seen.append(sessionsight.current() is request.analytics)  # type: ignore[attr-defined]
        return PlainTextResponse("sorry", 500)

    app = Starlette(routes=[Route("/", fail)], exception_handlers={Exception: handle})
    app.add_middleware(AnalyticsMiddleware, destinations={"analyse": {"public_key": "..."}})
    assert TestClient(app, raise_server_exceptions=False).get("/").text == "sorry"
    assert (seen, captured()) == ([False], {"analyse": 1})


# --- The warning about CORS ------------------------------------------------------------------------------

SIGNAL = ("x-signal-session-id", "x-signal-window-id", "x-signal-distinct-id")


CONNECTION = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "headers": [(b"cookie", b"ss_vid=visitor-1"), (b"x-signal-distinct-id", b"person-1")],
}


async def nothing_to_receive() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def ignore(message: Any) -> None:
    pass


def cors_app(
    allow_headers: tuple[str, ...], *, ours: str = "inside", signal: bool = True, disabled: bool = False
) -> Callable[[], Any]:
    """Serves a request, of an app with a CORSMiddleware that is below ours, above it, or in the app that we wrap."""
    keys: dict[str, dict[str, Any]] = {"signal": {"api_key": "k"}} if signal else {"analyse": {"public_key": "k"}}
    settings = Settings.from_mapping({"destinations": keys, "disabled": disabled})
    client = Client(settings, make_transport=lambda destination: Recorder())
    # A mounted app takes the place of the outer one in the scope.
    app = Starlette(routes=[Mount("/in", Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok"))]))])
    if ours == "inside":
        app.add_middleware(AnalyticsMiddleware, client=client)
    app.add_middleware(BaseHTTPMiddleware, dispatch=_pass_on)
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_headers=allow_headers)
    if ours == "outside":
        app.add_middleware(AnalyticsMiddleware, client=client)
    served = AnalyticsMiddleware(app, client=client) if ours == "around" else app
    return lambda: TestClient(served).get("/in/").text


async def _pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


@pytest.mark.parametrize("ours", ["inside", "outside", "around"])
def test_cors_that_shuts_out_signals_headers_is_warned_about_once(ours: str, caplog: pytest.LogCaptureFixture) -> None:
    get = cors_app(("Authorization", "X-Signal-Session-Id"), ours=ours)
    assert [get(), get()] == ["ok", "ok"]
    [message] = [record.getMessage() for record in caplog.records if "CORSMiddleware" in record.getMessage()]
    assert message.startswith("CORSMiddleware does not allow x-signal-window-id, x-signal-distinct-id:")
    assert all(f'"{name}"' in message for name in SIGNAL)


@pytest.mark.parametrize("ours", ["inside", "outside", "around"])
@pytest.mark.parametrize("allow_headers", [SIGNAL, tuple(map(str.title, SIGNAL)), ("*",)])
def test_cors_that_lets_signals_headers_in_is_fine(
    allow_headers: tuple[str, ...], ours: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert cors_app(allow_headers, ours=ours)() == "ok"
    assert "CORSMiddleware" not in caplog.text


@pytest.mark.parametrize("off", [{"signal": False}, {"disabled": True}])
def test_without_signal_its_headers_are_nobodys_business(off: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert cors_app((), **off)() == "ok"
    assert "CORSMiddleware" not in caplog.text


async def test_apps_with_odd_attributes_are_served_and_not_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    class Ring:
        @property
        def app(self) -> Any:
            return self

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["analytics"].capture("seen")

    class Broken(Ring):
        @property
        def app(self) -> Any:
            raise LookupError

    for app in (Ring(), Broken()):
        client = Client(Settings.from_mapping({"destinations": {"signal": {"api_key": "k"}}, "disabled": False}))
        await AnalyticsMiddleware(app, client)(CONNECTION.copy(), nothing_to_receive, ignore)
        assert client.stats().lanes["signal"].captured == 1
        client.shutdown(0)
    assert "CORSMiddleware" not in caplog.text
