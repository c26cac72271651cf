"""A Flask app: `sessionsight_flask.request` is Flask's, and a type checker knows of its `analytics`."""

from typing import assert_type

from flask import Flask

from sessionsight import Analytics, Client, current
from sessionsight.wsgi import AnalyticsMiddleware
from sessionsight_flask import SessionSight, current_analytics, request

analytics = SessionSight()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SESSIONSIGHT_DESTINATIONS"] = {"signal": {"api_key": "key"}}
    analytics.init_app(app)

    @app.post("/orders")
    def create_order() -> str:
        assert_type(request.analytics, Analytics)
        assert_type(request.method, str)
        request.analytics.capture("order_processed", {"path": request.path})
        request.analytics.capture(1)  # type: ignore[arg-type]
        assert_type(current(), Analytics)
        current().capture("order_processed", {"order_id": 1})
        assert_type(current_analytics, Analytics)
        current_analytics.capture("order_processed", {"order_id": 1})
        current_analytics.capture(1)  # type: ignore[arg-type]
        current().goals.increment("user-signups")
        return "ok"

    return app


assert_type(analytics.client, Client)
wrapped = AnalyticsMiddleware(create_app().wsgi_app)
