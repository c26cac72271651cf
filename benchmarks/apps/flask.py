"""A Flask app, by its `wsgi_app`."""

from __future__ import annotations

from flask import Flask, request

from benchmarks.apps.kinds import Captures, Served, View, wsgi_server
from benchmarks.timing import Serve
from benchmarks.vendors import Destinations
from sessionsight_flask import SessionSight


def bare(view: View) -> Serve:
    app = Flask("bare")

    @app.get("/orders/<int:order_id>")
    def order(order_id: int) -> str:
        view()
        return "ok"

    return wsgi_server(app.wsgi_app)


def ours(destinations: Destinations, captures: Captures | None) -> Served:
    app = Flask("ours")
    app.config["SESSIONSIGHT_DESTINATIONS"] = destinations
    SessionSight(app)

    @app.get("/orders/<int:order_id>")
    def order(order_id: int) -> str:
        if captures is not None:
            captures(request.analytics)  # type: ignore[attr-defined]
        return "ok"

    return Served(wsgi_server(app.wsgi_app), app.extensions["sessionsight"])
