"""The table's app on Flask."""

from __future__ import annotations

from typing import Any

import flask_login  # type: ignore[import-untyped]  # noqa: F401  # without it no user is looked for
from flask import Flask, Response, g, jsonify, request

from sessionsight_flask import SessionSight
from tests.conformance.cases import CASES, USER_HEADER, Visit, missing

LATER: list[Any] = []


class User:
    """As Flask-Login wants it."""

    is_authenticated = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_id(self) -> str:
        return self.name


class AnonymousUser:
    is_authenticated = False

    def get_id(self) -> None:
        return None


def sign_in(name: str) -> None:
    """Does the same as Flask-Login in `login_user`, and in `current_user` when it has loaded the user."""
    g._login_user = User(name)


def sign_out() -> None:
    g._login_user = AnonymousUser()


def make(options: dict[str, Any]) -> Flask:
    app = Flask("table")
    app.config.update({f"SESSIONSIGHT_{name.upper()}": value for name, value in options.items()})
    SessionSight(app)
    app.add_url_rule("/cases/<name>", view_func=view)
    app.add_url_rule("/cases/<name>/<path:rest>", view_func=view)
    app.register_error_handler(404, not_found)
    return app


def view(name: str, rest: str = "") -> Any:
    visit = Visit(
        request.analytics,  # type: ignore[attr-defined]
        load_user=lambda: sign_in(request.headers[USER_HEADER]),
        sign_in=sign_in,
        sign_out=sign_out,
        later=LATER,
    )
    result = CASES[name].view(visit)
    if result is None or isinstance(result, str):
        return result or "ok"
    return jsonify(result) if isinstance(result, dict) else Response(result)


def not_found(error: Exception) -> Any:
    missing(request.analytics)  # type: ignore[attr-defined]
    return "missing", 404
