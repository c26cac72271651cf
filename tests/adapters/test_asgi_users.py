"""Users that a middleware puts into a copy of the scope, as those of Django Channels are."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.authentication import SimpleUser
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from sessionsight import Analytics, carry, current
from sessionsight_asgi import AnalyticsMiddleware, get_analytics
from tests.adapters.recording import COOKIE, Recorder
from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.contrib.auth.models import AnonymousUser
from django.utils.functional import SimpleLazyObject

COPIES: dict[str, Callable[[Any, Any], Any]] = {
    "unpacked": lambda scope, user: {**scope, "user": user},
    "copied": lambda scope, user: {**copy.copy(scope), "user": user},
    "deeply": lambda scope, user: copy.deepcopy(scope) | {"user": user},
}


@pytest.fixture(params=COPIES)
def signing_in(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A middleware that hands on a copy of the scope with a user in it."""

    def make(app: Any, user: Any = None) -> Any:
        async def sign_in(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                scope = COPIES[request.param](scope, user or SimpleUser("ada"))
            await app(scope, receive, send)

        return sign_in

    return make


def served(app: Any, recorder: Recorder) -> TestClient:
    return TestClient(AnalyticsMiddleware(app, recorder.client), headers={"cookie": COOKIE})


def below() -> None:
    current().capture("below")


def test_a_plain_asgi_app_captures_as_the_user_of_the_copy_inside_a_second_middleware(
    recorder: Recorder, signing_in: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("view")
        below()
        await PlainTextResponse("ok")(scope, receive, send)

    inside = AnalyticsMiddleware(app, recorder.client)
    assert served(signing_in(inside), recorder).get("/").text == "ok"
    assert (recorder.names(), recorder.users()) == (["view", "below"], ["ada", "ada"])


def test_views_of_starlette_capture_as_the_user_of_the_copy(recorder: Recorder, signing_in: Any) -> None:
    def in_a_thread(request: Any) -> PlainTextResponse:
        request.analytics.capture("view")
        below()
        return PlainTextResponse("ok")

    async def on_the_loop(request: Any) -> PlainTextResponse:
        return in_a_thread(request)

    app = Starlette(routes=[Mount("/a", routes=[Route("/x", in_a_thread)]), Route("/b", on_the_loop)])
    browser = served(signing_in(app), recorder)
    for path in ("/a/x", "/b"):
        assert browser.get(path).text == "ok"
    assert recorder.users() == ["ada"] * 4
    assert [event["properties"].get("path", event.get("path")) for event in recorder.events()]


def test_fastapi_captures_as_the_user_of_the_copy(recorder: Recorder, signing_in: Any) -> None:
    app = FastAPI()

    @app.get("/")
    async def view(request: Request, analytics: Annotated[Analytics, Depends(get_analytics)]) -> str:
        below()
        return str(request.user.display_name)

    assert served(signing_in(app), recorder).get("/").json() == "ada"
    assert recorder.users() == ["ada"]


def test_a_websocket_captures_as_the_user_of_the_copy(recorder: Recorder, signing_in: Any) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        websocket.analytics.capture("said")  # type: ignore[attr-defined]
        await websocket.close()

    with served(signing_in(Starlette(routes=[WebSocketRoute("/", talk)])), recorder).websocket_connect("/"):
        pass
    assert recorder.users() == ["ada"]


def test_records_before_the_user_was_known_are_completed_at_the_end(recorder: Recorder, signing_in: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("view")
        await PlainTextResponse("ok")(scope, receive, send)

    inner = signing_in(AnalyticsMiddleware(app, recorder.client))

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        current().capture("before")
        await inner(scope, receive, send)

    served(outer, recorder).get("/")
    assert (recorder.names(), recorder.users()) == (["before", "view"], ["ada", "ada"])


def test_a_scope_of_somebody_else_is_never_taken(recorder: Recorder) -> None:
    other: dict[str, Any] = {"type": "http", "path": "/", "headers": [], "user": SimpleUser("mallory")}
    other["analytics"] = recorder.client.analytics

    async def app(scope: Any, receive: Any, send: Any) -> None:
        analytics = scope["analytics"]

        def capture(scope: Any, request: Any) -> None:
            analytics.capture("view")

        capture(other, StarletteRequest(other))
        await PlainTextResponse("ok")(scope, receive, send)

    served(app, recorder).get("/")
    assert recorder.users() == [None]


def test_a_lazy_user_counts_once_it_is_loaded_and_is_never_loaded_by_us(recorder: Recorder) -> None:
    loads: list[int] = []

    def load() -> Any:
        loads.append(1)
        return SimpleUser("ada")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        user = scope["user"] = SimpleLazyObject(load)
        scope["analytics"].capture("before")
        assert loads == []
        if scope["path"] == "/loads":
            assert user.is_authenticated
        scope["analytics"].capture("after")
        await PlainTextResponse("ok")(scope, receive, send)

    browser = served(app, recorder)
    browser.get("/")
    browser.get("/loads")
    assert loads == [1]
    assert recorder.users() == [None, None, "ada", "ada"]


def test_an_anonymous_user_is_none(recorder: Recorder, signing_in: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("view")
        await PlainTextResponse("ok")(scope, receive, send)

    served(signing_in(app, AnonymousUser()), recorder).get("/")
    assert recorder.users() == [None]


# --- Django Channels ---------------------------------------------------------------------------------------


class Account:
    """A user of Django's, as far as Channels and we look at it."""

    is_authenticated = True
    pk = id = 7


async def test_consumers_of_channels_capture_as_the_user_of_their_scope(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from channels import auth  # type: ignore[import-untyped]
    from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # type: ignore[import-untyped]
    from channels.routing import ProtocolTypeRouter, URLRouter  # type: ignore[import-untyped]
    from channels.testing import WebsocketCommunicator  # type: ignore[import-untyped]
    from django.urls import path

    async def get_user(scope: Any) -> Any:
        return Account()

    monkeypatch.setattr(auth, "get_user", get_user)
    carriers: list[dict[str, str]] = []

    class Chat(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            await self.accept()
            self.scope["analytics"].capture("opened")
            below()

    class SyncChat(WebsocketConsumer):  # type: ignore[misc]
        def connect(self) -> None:
            self.accept()
            below()

    class CarryingChat(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            await self.accept()
            carried = threading.Thread(target=carry(below))
            carried.start()
            carried.join()

    class JobChat(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            await self.accept()
            carriers.append(current().context.to_carrier())

    def signed_in(inner: Any) -> Any:
        with_user = auth.AuthMiddleware(inner)

        async def with_session(scope: Any, receive: Any, send: Any) -> None:
            await with_user({**scope, "session": {}}, receive, send)

        return with_session

    consumers: dict[str, Any] = {"chat": Chat, "sync": SyncChat, "carry": CarryingChat, "job": JobChat}
    routes = URLRouter([path(where, consumer.as_asgi()) for where, consumer in consumers.items()])
    app = AnalyticsMiddleware(ProtocolTypeRouter({"websocket": signed_in(routes)}), recorder.client)
    for where in consumers:
        socket = WebsocketCommunicator(app, f"/{where}", headers=[(b"cookie", COOKIE.encode())])
        assert (await socket.connect())[0]
        await socket.disconnect()
    found = list(zip(recorder.names(), recorder.users(), strict=True))
    assert found == [("opened", "7"), ("below", "7"), ("below", "7"), ("below", "7")]
    assert [carrier["ss_user_id"] for carrier in carriers] == ["7"]
