"""Celery's workers, by real brokers: in which context a task runs, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from celery import Celery, chain, chord, group  # type: ignore[import-untyped]
from celery.beat import Scheduler  # type: ignore[import-untyped]
from celery.contrib.testing.worker import start_worker  # type: ignore[import-untyped]
from flask import Flask

import sessionsight
from sessionsight import TrackingContext
from sessionsight.propagation.celery import connect, disconnect
from sessionsight.testing import record
from sessionsight_flask import SessionSight
from tests.core.propagation.celery_app import LOOKED, make_app
from tests.core.propagation.reports import Shop, carrier_of, context_of
from tests.support.brokers import REDIS_URL, need_rabbitmq, need_redis
from tests.support.server import PATIENCE, Server, until
from tests.support.suites import WITHOUT_TRIO

pytestmark = [pytest.mark.servers, pytest.mark.processes]

ROOT = Path(__file__).parents[3]


class Site(Shop):
    """A publisher and a worker that are connected by a broker."""

    def __init__(self, app: Celery, vendor: Server, worker: subprocess.Popen[bytes] | None = None) -> None:
        super().__init__(vendor)
        self.app = app
        self.worker = worker


@contextlib.contextmanager
def site(broker: str, *options: str, **variables: str) -> Iterator[Site]:
    """A site with a worker in a process, or with one in a thread if no options are given."""
    name = f"test-{uuid4().hex[:12]}"
    backend = need_redis() if options else "cache+memory://"
    with Server() as vendor:
        app = make_app(broker, backend, name)
        try:
            if options:
                with process(*options, WORKER=f"{broker} {backend} {name} {vendor.url}", **variables) as worker:
                    yield Site(app, vendor, worker)
            else:
                with start_worker(app, perform_ping_check=False, shutdown_timeout=PATIENCE):
                    yield Site(app, vendor)
        finally:
            disconnect(app)
            clean_up(app, broker, name)


@contextlib.contextmanager
def process(*options: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "celery", "--app", "tests.core.propagation.celery_app", "worker", *options]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": f"{ROOT}:{WITHOUT_TRIO}", **variables}
    worker = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield worker
    finally:  # not in order: Celery may hang if it is stopped while it replaces children
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(PATIENCE)


def clean_up(app: Celery, broker: str, name: str) -> None:
    if broker.startswith("amqp"):
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(name)
            connection.default_channel.exchange_delete(name)
    if app.conf.result_backend.startswith("redis"):
        app.backend.result_consumer.stop()
        app.backend.client.connection_pool.disconnect()
    app.close()
    with redis.Redis.from_url(REDIS_URL) as database:
        for key in database.scan_iter(f"{name}:*"):
            database.delete(key)


KINDS = {
    "prefork, Redis": (need_redis, ("--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "5")),
    "threads, RabbitMQ": (need_rabbitmq, ("--pool", "threads", "--concurrency", "2")),
    "solo, Redis": (need_redis, ()),  # in this process
}


@pytest.fixture(scope="module")
def sites() -> Iterator[Callable[[str], Site]]:
    """Returns the site of each kind, which all tests share."""
    with contextlib.ExitStack() as running:

        @cache
        def find(kind: str) -> Site:
            need, options = KINDS[kind]
            return running.enter_context(site(need(), *options))

        yield find


@pytest.fixture(params=KINDS)
def any_site(request: pytest.FixtureRequest, sites: Callable[[str], Site]) -> Site:
    return sites(request.param)


@pytest.fixture
def shop(any_site: Site) -> Site:
    """A site whose client is that of this process."""
    any_site.configure()
    return any_site


def publish_each_way(app: Celery, token: str) -> int:
    see = app.tasks["see"]
    see.delay(token)
    see.apply_async((token,), countdown=0.01)
    app.send_task("see", (token,), headers={"own": "header"})
    see.si(token).apply_async()
    return 4


def test_a_task_has_the_context_and_the_user_of_its_publisher(shop: Site, token: str) -> None:
    with sessionsight.scope(context_of(token)):
        number = publish_each_way(shop.app, token)
    assert shop.carriers(number, token) == [carrier_of(token)] * number


def test_a_task_by_protocol_1_has_the_context_of_its_publisher(shop: Site, token: str) -> None:
    app = make_app(shop.app.conf.broker_url, "cache+memory://", shop.app.main)  # an app keeps its first protocol
    app.conf.task_protocol = 1
    try:
        with sessionsight.scope(context_of(token)):
            number = publish_each_way(app, token)
            app.tasks["twice"].delay(token)
    finally:
        disconnect(app)
        app.close()
    assert shop.carriers(number + 2, token) == [carrier_of(token)] * (number + 2)


@pytest.mark.parametrize(("kind", "number"), [("chain", 3), ("group", 2), ("chord", 3), ("link", 2)])
def test_every_task_of_a_workflow_has_the_context_of_its_publisher(
    kind: str, number: int, shop: Site, token: str
) -> None:
    see, collect = shop.app.tasks["see"], shop.app.tasks["collect"]
    step = see.si(token)
    workflows = {
        "chain": lambda: chain(step, step, step).delay(),
        "group": lambda: group(step, step).delay(),
        "chord": lambda: chord([step, step], collect.s(token)).delay(),
        "link": lambda: see.apply_async((token,), link=step),
    }
    with sessionsight.scope(context_of(token)):
        workflows[kind]()
    events = shop.wait_for(number, token)
    assert [event["carrier"] for event in events] == [carrier_of(token)] * number
    assert [event["results"] for event in events if "results" in event] == [[token, token]] * (kind == "chord")


def test_a_retry_has_the_context_of_the_first_attempt(shop: Site, token: str) -> None:
    with sessionsight.scope(context_of(token)):
        shop.app.tasks["twice"].delay(token)
    events = shop.wait_for(2, token)
    assert {event["retries"] for event in events} == {0, 1}
    assert [event["carrier"] for event in events] == [carrier_of(token)] * 2


def test_a_task_that_a_task_publishes_has_its_context_and_the_user_who_has_signed_in(shop: Site, token: str) -> None:
    with sessionsight.scope(context_of(token)):
        shop.app.tasks["publish"].delay(token)
        shop.app.tasks["sign_in"].delay(token, "user-2")
    carriers = shop.carriers(3, token)
    assert carriers.count(carrier_of(token)) == 2
    assert carriers.count(carrier_of(token) | {"ss_user_id": "user-2"}) == 1


@pytest.mark.parametrize("how", ["fail", "ignore", "reject"])
def test_what_a_task_has_captured_is_delivered_and_its_context_ends_however_it_ends(
    how: str, shop: Site, token: str
) -> None:
    with sessionsight.scope(context_of(token)):
        shop.app.tasks["end"].delay(token, how)
    assert shop.carriers(1, token) == [carrier_of(token)]
    assert shop.wait_for(1, token, "ended") == [{"token": token, "left": False, "carrier": {}}]


def test_a_task_without_a_context_has_an_empty_one(shop: Site, token: str) -> None:
    scheduler = Scheduler(app=shop.app, lazy=True)  # of beat
    scheduler.apply_async(scheduler.Entry(name="see", task="see", args=(token,), schedule=60, app=shop.app))
    shop.app.send_task("see", (token,))
    assert shop.carriers(2, token) == [{}, {}]


def test_a_refusal_of_consent_reaches_the_task(shop: Site, token: str) -> None:
    with sessionsight.scope(TrackingContext(opted_out=True)):
        shop.app.tasks["see"].delay(token)
    assert shop.wait_for(1, token, "ended") == [{"token": token, "left": False, "carrier": {}}]
    assert not shop.events("seen", token)


def test_a_revoked_task_leaves_no_context_to_the_next(shop: Site, token: str) -> None:
    with sessionsight.scope(context_of("revoked")):
        revoked = shop.app.tasks["see"].apply_async((token,), countdown=3600)
    shop.app.control.revoke(revoked.id)
    with sessionsight.scope(context_of(token)):
        shop.app.tasks["see"].delay(token)
    assert shop.carriers(1, token) == [carrier_of(token)]


def test_an_eager_task_is_a_part_of_the_request_that_calls_it() -> None:
    app = make_app("memory://", "cache+memory://", "eager")
    app.conf.task_always_eager = True
    client = sessionsight.configure(destinations={"analyse": {"public_key": "..."}})
    try:
        with record() as recorded, client.scope(context_of("s-1")) as analytics:
            app.tasks["see"].delay("token")
            assert sessionsight.current() is analytics
            assert "seen" not in {event.name for event in recorded.events}  # they leave with those of the request
    finally:
        disconnect(app)
    assert [event.context for event in recorded.events if event.name == "seen"] == [context_of("s-1")]


def test_a_task_of_a_flask_app_has_the_visitor_of_the_request_that_publishes_it(
    sites: Callable[[str], Site], token: str
) -> None:
    shop = sites("solo, Redis")
    web = Flask("shop")
    destinations = {"analyse": {"public_key": "pk_live_1", "host": shop.vendor.url}}
    web.config.update(SESSIONSIGHT_DESTINATIONS=destinations, SESSIONSIGHT_USER=lambda _: "user-1")
    SessionSight(web)

    @web.post("/pay")
    def pay() -> str:
        shop.app.send_task("see", (token,))
        return "paid"

    browser = web.test_client()
    browser.set_cookie("ss_sid", token)
    assert browser.post("/pay").text == "paid"
    [carrier] = shop.carriers(1, token)
    assert (carrier["ss_sid"], carrier["ss_user_id"], carrier["ss_page_path"]) == (token, "user-1", "/pay")


def test_a_task_that_is_terminated_delivers_and_leaves_no_context_to_the_next(
    sites: Callable[[str], Site], tmp_path: Path, token: str
) -> None:
    shop = sites("prefork, Redis")
    shop.configure()
    with sessionsight.scope(context_of(token)):
        held = shop.app.tasks["hold"].delay(token, str(tmp_path / "released"))
    until((tmp_path / "released-held").exists, "the task runs")
    shop.app.control.revoke(held.id, terminate=True)
    assert shop.carriers(1, token) == [carrier_of(token)]
    shop.app.tasks["see"].delay(f"{token}-next")
    assert shop.carriers(1, f"{token}-next") == [{}]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_a_worker_that_stops_delivers_what_its_tasks_have_captured(
    how: signal.Signals, tmp_path: Path, token: str
) -> None:
    released = tmp_path / "released"
    with site(need_redis(), "--pool", "prefork", "--concurrency", "1", LINGER="60") as shop:
        shop.configure()
        with sessionsight.scope(context_of(token)):
            shop.app.tasks["see"].delay(token)
            shop.app.tasks["hold"].delay(token, str(released))
        until((tmp_path / "released-held").exists, "the second task runs")
        assert not shop.events("seen", token)
        assert shop.worker is not None
        shop.worker.send_signal(how)
        released.touch()
        shop.worker.wait(60)  # billiard's child waits for 30 s until the last result is read, which may not happen
        assert shop.carriers(2, token) == [carrier_of(token)] * 2


def test_without_a_client_tasks_run_without_analytics(sites: Callable[[str], Site], token: str) -> None:
    app = sites("solo, Redis").app
    app.send_task("look", (token,))
    until(lambda: token in LOOKED, "the task has run")
    assert LOOKED[token] == (None, None)


def test_an_app_that_is_not_connected_is_left_alone(sites: Callable[[str], Site], token: str) -> None:
    app = sites("solo, Redis").app
    client = sessionsight.configure(destinations={"analyse": {"public_key": "..."}})
    disconnect(app)
    disconnect(app)
    try:
        with client.scope(context_of(token)):
            app.send_task("look", (token,))
        until(lambda: token in LOOKED, "the task has run")
    finally:
        connect(app)
        connect(app)
    assert LOOKED[token] == (None, None)
