"""The WSGI middleware around frameworks that know nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import falcon
import pytest
from werkzeug.test import Client as Browser

from sessionsight import current
from sessionsight.wsgi import AnalyticsMiddleware
from tests.adapters.recording import COOKIE, Recorder


def chunks() -> Iterator[bytes]:
    for _ in range(2):
        current().capture("chunk")
        yield b"x"


def bottle_app() -> Any:
    import bottle  # type: ignore[import-untyped]

    app = bottle.Bottle()

    @app.get("/")  # type: ignore[untyped-decorator]
    def view() -> str:
        bottle.request.environ["sessionsight.analytics"].capture("view")
        return "ok"

    app.get("/stream")(chunks)
    return app


def falcon_app() -> Any:
    class View:
        def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
            request.env["sessionsight.analytics"].capture("view")
            response.text = "ok"

    class Stream:
        def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
            response.stream = chunks()

    app = falcon.App()
    app.add_route("/", View())
    app.add_route("/stream", Stream())
    return app


def pyramid_app() -> Any:
    # Its request class imports a module of the standard library that is on its way out.
    from pyramid.config import Configurator  # type: ignore[import-untyped]
    from pyramid.response import Response  # type: ignore[import-untyped]

    def view(request: Any) -> Any:
        request.environ["sessionsight.analytics"].capture("view")
        return Response("ok")

    with Configurator() as config:
        config.add_route("view", "/")
        config.add_route("stream", "/stream")
        config.add_view(view, route_name="view")
        config.add_view(lambda request: Response(app_iter=chunks()), route_name="stream")
        return config.make_wsgi_app()


@pytest.mark.parametrize("make", [bottle_app, falcon_app, pyramid_app])
@pytest.mark.filterwarnings("ignore")
def test_views_and_streams_of_other_frameworks_have_analytics(make: Any, recorder: Recorder) -> None:
    browser: Any = Browser(AnalyticsMiddleware(make(), recorder.client), use_cookies=False)
    for path, body in (("/", "ok"), ("/stream", "xx"), ("/missing", None)):
        with browser.get(path, headers={"Cookie": COOKIE}) as response:
            assert response.status_code == (404 if body is None else 200)
            assert body in (response.text, None)
    assert recorder.names() == ["view", "chunk", "chunk"]
    assert {event["anonymous_id"] for event in recorder.events()} == {"visitor-1"}
