"""Transactions of SQLAlchemy in requests of Flask and ASGI apps, and next to Django's."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from werkzeug.test import Client as Browser

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.db import transaction
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from sessionsight import current
from sessionsight.sqlalchemy import bind, metadata
from sessionsight_asgi import AnalyticsMiddleware
from sessionsight_flask import SessionSight, current_analytics
from tests.adapters.django_order_fixtures import orders_in_files, recorder_that_holds  # noqa: F401  # fixtures
from tests.adapters.django_orders import Refund, order, refunded, rolled_back
from tests.adapters.recording import COOKIE, Recorder


@pytest.fixture
def make(tmp_path: Path) -> Iterator[sessionmaker[Session]]:
    """Makes bound sessions of a database of its own."""
    engine = create_engine(f"sqlite:///{tmp_path / 'other.sqlite3'}")
    maker = sessionmaker(engine)
    bind(maker)
    yield maker
    engine.dispose()


@pytest.mark.parametrize("outbox", [False, True])
def test_the_transactions_of_flask_sqlalchemys_requests(tmp_path: Path, *, outbox: bool) -> None:
    url = f"sqlite:///{tmp_path / 'shop.sqlite3'}"
    recorder = Recorder(spool=f"sqlalchemy:{url}" if outbox else "memory", spool_timeout=20.0)
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    SessionSight(app, client=recorder.client)
    db = SQLAlchemy(app)
    bind(db.session, outbox=outbox)

    class Order(db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)

    @app.get("/<end>")
    def serve(end: str) -> str:
        db.session.execute(select(Order)).all()
        if end != "read":
            db.session.add(Order())
        current_analytics.capture(end)
        if end == "commit":
            db.session.commit()
            current_analytics.capture("after")
        return "ok"

    with app.app_context():
        db.create_all()
        metadata.create_all(db.engine)
    for end in ("commit", "read", "forget"):
        with Browser(app, use_cookies=False).get(f"/{end}", headers={"Cookie": COOKIE}) as response:
            assert response.status_code == 200
    assert recorder.names() == ["commit", "after", "read"]
    assert rolled_back(recorder) == 1
    assert {event["page"]["path"] for event in recorder.events() if "page" in event} <= {"/commit", "/read"}
    with app.app_context():
        db.engine.dispose()
    recorder.client.shutdown()


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_transaction_that_a_dependency_in_a_thread_has_begun(recorder: Recorder, make: Any, end: str) -> None:
    """FastAPI calls a `def` dependency as this app does: in a copy of the context, which the view does not get."""
    seen: list[list[str]] = []

    async def pay(_: Request) -> Response:
        session = make()
        await run_in_threadpool(session.execute, select(1))
        await run_in_threadpool(current().capture, "paid")
        seen.append(recorder.names())
        await run_in_threadpool(getattr(session, end))
        return Response()

    app = AnalyticsMiddleware(Starlette(routes=[Route("/", pay)]), client=recorder.client)
    assert TestClient(app, headers={"Cookie": COOKIE}).get("/").status_code == 200
    assert seen == [[]]
    assert recorder.names() == (["paid"] if end == "commit" else [])
    assert rolled_back(recorder) == (end == "rollback")


def test_one_of_several_open_sessions_of_a_request_must_be_used_or_named(recorder: Recorder, make: Any) -> None:
    with recorder.client.scope(user_id="user_1") as analytics:
        sessions = [make(), make()]
        for session in sessions:
            thread = threading.Thread(target=contextvars.copy_context().run, args=(session.begin,))
            thread.start()
            thread.join()
        analytics.capture("of_neither")
        sessions[0].rollback()
        analytics.capture("of_the_other")
    assert recorder.names() == ["of_neither"]
    sessions[1].commit()
    assert recorder.names() == ["of_neither", "of_the_other"]


def test_djangos_open_transaction_comes_first(recorder: Recorder, make: Any) -> None:
    capture = recorder.client.bind(user_id="user_1").capture
    with make.begin() as session:
        capture("session")
        with refunded():
            order()
            capture("django")
            capture("named", using=session)
        with transaction.atomic():
            capture("database", using="other")  # of which no transaction is open
            assert recorder.names() == ["database"]
    assert recorder.names() == ["database", "session", "named"]
    assert rolled_back(recorder) == 1


def test_a_rollback_of_the_session_leaves_djangos_transaction(recorder: Recorder, make: Any) -> None:
    capture = recorder.client.bind(user_id="user_1").capture
    with transaction.atomic(), suppress(Refund), make.begin() as session:
        capture("django")
        capture("session", using=session)
        raise Refund
    assert recorder.names() == ["django"]
    assert rolled_back(recorder) == 1
