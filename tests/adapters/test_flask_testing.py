"""A test of a Flask app sees what was captured, although its client closes no response."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, request

from sessionsight.testing import record
from sessionsight_flask import SessionSight


def app() -> Flask:
    app = Flask("shop")
    app.config["SESSIONSIGHT_DISABLED"] = True
    SessionSight(app)

    @app.get("/plain")
    def plain() -> str:
        analytics: Any = request.analytics  # type: ignore[attr-defined]
        analytics.capture("plain")
        return "ok"

    @app.get("/empty")
    def empty() -> tuple[str, int]:
        plain()
        return "", 204

    @app.get("/stream")
    def stream() -> Response:
        analytics: Any = request.analytics  # type: ignore[attr-defined]

        def rows() -> Any:
            yield "one"
            analytics.capture("streamed")

        return Response(rows())

    return app


def test_a_plain_response_hands_over_unread() -> None:
    browser = app().test_client()
    with record() as analytics:
        responses = [browser.get("/plain"), browser.get("/empty")]
        assert [event.name for event in analytics.events] == ["plain", "plain"]
    assert [response.status_code for response in responses] == [200, 204]


def test_a_stream_hands_over_when_it_has_been_read() -> None:
    browser = app().test_client()
    with record() as analytics:
        response = browser.get("/stream")
        analytics.assert_nothing_captured()
        assert response.text == "one"
        analytics.assert_captured("streamed")
