"""A Celery app for publishers and workers, whose tasks report to the vendor under which context they run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, signals  # type: ignore[import-untyped]
from celery.exceptions import Ignore, Reject  # type: ignore[import-untyped]

import sessionsight
from sessionsight import Analytics
from sessionsight.capture.current import get_current
from sessionsight.propagation.celery import connect
from tests.core.propagation.reports import configure, report
from tests.support.server import until

LOOKED: dict[str, tuple[dict[str, Any] | None, Analytics | None]] = {}
"""The own headers of the messages of `look`, and the analytics that were set for it, in the process of the worker."""


def make_app(broker: str, backend: str, name: str) -> Celery:
    """Return an app with a queue of its own, and tasks."""
    app = Celery(name, broker=broker, backend=backend, set_as_current=False)
    prefix = {"global_keyprefix": f"{name}:"}
    app.conf.update(
        task_default_queue=name,
        broker_transport_options={**prefix, "polling_interval": 0.2} if broker.startswith("redis") else {},
        result_backend_transport_options=prefix,
        broker_connection_retry_on_startup=True,
        result_chord_retry_interval=0.01,  # for the backend without chords of its own
        result_expires=None,  # deleted by the tests; celery sets an expiry by a deprecated call of redis
        event_queue_prefix=name,
        control_exchange=name,
        worker_hijack_root_logger=False,
    )

    @app.task(name="see", shared=False)  # type: ignore[untyped-decorator]
    def see(token: str, *results: Any) -> str:
        report("seen", token)
        return token

    @app.task(name="look", shared=False, bind=True)  # type: ignore[untyped-decorator]
    def look(self: Any, token: str) -> None:
        LOOKED[token] = (self.request.headers, get_current())

    @app.task(name="collect", shared=False)  # type: ignore[untyped-decorator]
    def collect(results: list[str], token: str) -> None:
        report("seen", token, results=results)

    @app.task(name="publish", shared=False)  # type: ignore[untyped-decorator]
    def publish(token: str) -> None:
        report("seen", token)
        app.send_task("see", (token,))

    @app.task(name="sign_in", shared=False)  # type: ignore[untyped-decorator]
    def sign_in(token: str, user_id: str) -> None:
        sessionsight.current().identify(user_id)
        app.send_task("see", (token,))

    @app.task(name="twice", shared=False, bind=True)  # type: ignore[untyped-decorator]
    def twice(self: Any, token: str) -> None:
        report("seen", token, retries=self.request.retries)
        if not self.request.retries:
            sessionsight.current().identify("another user")
            raise self.retry(countdown=0)

    @app.task(name="end", shared=False)  # type: ignore[untyped-decorator]
    def end(token: str, how: str) -> None:
        report("seen", token)
        raise {"fail": ValueError(how), "ignore": Ignore(), "reject": Reject(how), "exit": SystemExit(0)}[how]

    @app.task(name="hold", shared=False)  # type: ignore[untyped-decorator]
    def hold(token: str, released: str) -> None:
        report("seen", token)
        Path(f"{released}-held").touch()
        until(Path(released).exists, "the task may go on")

    connect(app)

    def report_left(task: Any, args: Any, **_: object) -> None:
        if task.app is app and task.name != "look":
            context = sessionsight.current().context.to_carrier()
            ended = {"token": args[0], "left": get_current() is not None, "carrier": context}
            sessionsight.get_client().analytics.capture("ended", ended, user_id="reporter")

    signals.task_postrun.connect(report_left, weak=False)  # after the receiver that ends the task's analytics
    return app


if "WORKER" in os.environ:
    broker, backend, name, vendor = os.environ["WORKER"].split()
    configure(vendor, linger=float(os.environ.get("LINGER", "0.05")))
    app = make_app(broker, backend, name)
