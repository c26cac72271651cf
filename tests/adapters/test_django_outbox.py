"""Records in the app's own database: there with the business data, or not at all."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.adapters.django_site import asgi, browser, site

# isort: split
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import DatabaseError, connections, transaction
from django.http import HttpResponse
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext

from sessionsight import Client, ConfigurationError, Settings
from sessionsight.capture.records import DropReason
from sessionsight.relay import Relay
from sessionsight.testing import record
from sessionsight_django import clients
from sessionsight_django.outbox import join
from sessionsight_django.transactions import defer_until_commit
from tests.adapters.django_orders import Refund, buy, change_line, fail_in_the_end, give_back, order, orders, view_of
from tests.adapters.outbox_databases import ENGINES, close_connection, outbox_database, rows
from tests.adapters.recording import Recorder
from tests.core.delivery.kit import tally


def outbox_recorder(spool: str = "django", **settings: Any) -> Recorder:
    """A client as Django's adapter makes it, whose records stay in the outbox until a relay is run."""
    recorder = Recorder(**{"spool": spool, "delivery": "relay", "spool_timeout": 20.0, **settings})
    recorder.client.defer_record = defer_until_commit
    recorder.client.join_transaction = clients._join_transaction(recorder.client.settings)
    return recorder


def delivered(recorder: Recorder) -> list[str]:
    """Run a relay until nothing is left, and return the names of all events that have arrived so far."""
    assert recorder.client.flush(20)  # a commit in an event loop leaves the write to a thread
    # A client of its own, because a relay closes the one that it is given.
    relay = Relay(Client(recorder.client.settings, make_transport=lambda _: recorder))
    relay.start()
    assert relay._engine.flush(float("inf"))
    assert not any(lane.ready or lane.last_error for lane in relay.stop())
    return recorder.arrived


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with outbox_database(request.param, tmp_path, "default") as alias:
        with connections[alias].cursor() as cursor:
            cursor.execute("CREATE TABLE orders (id INTEGER, PRIMARY KEY (id))")
        yield alias


@pytest.fixture
def recorder(database: str) -> Iterator[Recorder]:
    recorder = outbox_recorder()
    yield recorder
    recorder.client.shutdown(0)


# --- transactions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "names"),
    [
        (buy, ["after", "before", "inside"]),
        (give_back, ["after", "before"]),
        (change_line, ["instead", "kept", "outer"]),
        (fail_in_the_end, []),
    ],
)
def test_records_share_the_fate_of_their_transaction(recorder: Recorder, view: Any, names: list[str]) -> None:
    with site(recorder, view):
        browser().get(f"/{view.__name__}/")
    assert recorder.arrived == []
    assert sorted(delivered(recorder)) == names
    assert orders() == names.count("inside")
    stats = recorder.client.stats().lanes["analyse"]
    assert stats.balanced
    assert (stats.captured, stats.delivered, stats.pending) == (len(names), len(names), 0)


def test_a_record_is_in_the_inbox_within_its_transaction(recorder: Recorder, database: str) -> None:
    seen = []

    @view_of
    def view(analytics: Any) -> None:
        analytics.capture("before")
        with suppress(Refund), transaction.atomic():
            analytics.capture("inside")
            seen.append(rows(database, "inbox"))
            raise Refund
        seen.append(rows(database, "inbox"))

    with site(recorder, view):
        browser().get("/view/")
    assert seen == [1, 0]
    assert rows(database, "inbox") == 1
    assert delivered(recorder) == ["before"]
    assert rows(database, "inbox") == rows(database, "queue") == 0


def test_a_record_has_the_context_of_its_request(recorder: Recorder) -> None:
    with site(recorder, buy):
        browser().get("/buy/")
    delivered(recorder)
    assert {event["anonymous_id"] for event in recorder._events} == {"visitor-1"}


def test_a_view_that_fails_under_atomic_requests_keeps_nothing_of_it(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)

    @view_of
    def well(analytics: Any) -> None:
        analytics.capture("well")

    @view_of
    def ill(analytics: Any) -> None:
        analytics.capture("ill")
        analytics.capture("attempt", on_commit=False)
        raise Refund

    with site(recorder, well, ill):
        browser().get("/well/")
        browser().get("/ill/")
    assert sorted(delivered(recorder)) == ["attempt", "well"]


def test_outside_a_transaction_a_record_has_its_own(recorder: Recorder, database: str) -> None:
    recorder.client.bind(user_id="user_1").capture("alone")
    assert rows(database, "inbox") == 1
    recorder.client.bind(user_id="user_1").capture("on_the_open_connection")
    assert rows(database, "inbox") == 2
    assert delivered(recorder) == ["alone", "on_the_open_connection"]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)  # SQLite has one writer
def test_what_does_not_wait_for_the_commit_is_written_beside_the_transaction(recorder: Recorder) -> None:
    with suppress(Refund), transaction.atomic():
        order()
        recorder.client.bind(user_id="user_1").capture("attempt", on_commit=False)
        raise Refund
    assert delivered(recorder) == ["attempt"]


def test_a_transaction_that_is_bound_to_fail_takes_its_records_along(recorder: Recorder) -> None:
    with suppress(Refund), transaction.atomic():
        with suppress(Refund), transaction.atomic(savepoint=False):
            raise Refund
        recorder.client.bind(user_id="user_1").capture("too_late")
        raise Refund
    assert delivered(recorder) == []


def test_a_transaction_whose_statement_has_failed_takes_its_records_along(recorder: Recorder) -> None:
    with suppress(Refund), transaction.atomic():
        with suppress(Exception), connections["default"].cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")
        recorder.client.bind(user_id="user_1").capture("too_late")
        raise Refund
    assert delivered(recorder) == []


def test_an_inbox_that_cannot_be_written_fails_one_transaction_at_most(
    recorder: Recorder, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    with transaction.atomic():
        analytics.capture("first")
    rename_table(database, "sessionsight_inbox", "moved")
    # PostgreSQL has ended this transaction. If nobody was told, the order would be missing after a success.
    fails = connections[database].vendor == "postgresql"
    with pytest.raises(DatabaseError) if fails else nullcontext(), transaction.atomic():
        order()
        analytics.capture("second")
    assert orders() == (0 if fails else 1)
    before = orders()
    with transaction.atomic():
        order()
        analytics.capture("third")
    with suppress(Refund), transaction.atomic():
        analytics.capture("lost")
        raise Refund
    assert orders() == before + 1
    rename_table(database, "moved", "sessionsight_inbox")
    assert recorder.client.flush(20)
    assert "could not be written in its transaction" in caplog.text
    assert sorted(delivered(recorder)) == ["first", *([] if fails else ["second"]), "third"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("writes_before", [0, 1])
def test_a_serialization_failure_is_an_error_of_the_transaction_only(
    recorder: Recorder, database: str, caplog: pytest.LogCaptureFixture, writes_before: int
) -> None:
    capture = recorder.client.bind(user_id="user_1").capture
    serializable = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"
    other = connections.create_connection(database)
    for _ in range(writes_before):  # later ones have no savepoint
        with transaction.atomic():
            capture("first")

    def buy() -> None:
        with transaction.atomic(), connections[database].cursor() as one, other.cursor() as two:
            two.execute("BEGIN")
            for number, cursor in enumerate((one, two)):
                cursor.execute(serializable)
                cursor.execute("SELECT * FROM orders")
                cursor.execute("INSERT INTO orders (id) VALUES (%s)", [number])
            two.execute("COMMIT")
            capture("lost")

    with pytest.raises(DatabaseError, match="could not serialize access"):
        buy()
    other.close()
    assert delivered(recorder) == ["first"] * writes_before
    assert "could not be written" not in caplog.text


def test_a_record_of_a_transaction_belongs_to_it_also_while_the_spool_is_out_of_reach(
    recorder: Recorder, database: str
) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    rename_table(database, "sessionsight_inbox", "moved")
    analytics.capture("waits")
    rename_table(database, "moved", "sessionsight_inbox")
    with suppress(Refund), transaction.atomic():
        analytics.capture("lost")
        raise Refund
    assert recorder.client.flush(20)
    assert delivered(recorder) == ["waits"]


def rename_table(alias: str, old: str, new: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


def test_two_databases(recorder: Recorder, database: str, tmp_path: Path) -> None:
    with outbox_database("sqlite_orm", tmp_path, "other"):
        analytics = recorder.client.bind(user_id="user_1")
        for error in ([], [Refund()]):
            with suppress(Refund), transaction.atomic(using="other"):
                with connections["other"].cursor() as cursor:
                    cursor.execute("SELECT 1")
                analytics.capture("deferred", using="other")
                analytics.capture("joined_none", using="default")
                for one in error:
                    raise one
    assert sorted(delivered(recorder)) == ["deferred", "joined_none", "joined_none"]
    assert recorder.client.stats().lanes["analyse"].dropped == {DropReason.ROLLED_BACK: 1}


def test_a_spool_in_another_database(recorder: Recorder, tmp_path: Path) -> None:
    with outbox_database("sqlite_orm", tmp_path, "analytics") as alias:
        other = outbox_recorder("django:analytics")
        with suppress(Refund), transaction.atomic(using="analytics"):
            other.client.bind(user_id="user_1").capture("lost")
            raise Refund
        with transaction.atomic(using="analytics"):
            other.client.bind(user_id="user_1").capture("kept")
            assert rows(alias, "inbox") == 1
        with suppress(Refund), transaction.atomic():
            order()
            other.client.bind(user_id="user_1").capture("of_the_default_database")
            raise Refund
        assert delivered(other) == ["kept"]
        other.client.shutdown(0)


def test_the_ledger_adds_up_over_relays(recorder: Recorder) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    for at in range(30):
        with suppress(Refund), transaction.atomic():
            order()
            analytics.capture("bought", {"at": at}, key=f"order:{at % 20}")
            if at % 3 == 0:
                raise Refund
        if at % 10 == 9:
            delivered(recorder)
    assert tally(recorder.client.stats().lanes["analyse"]) == {
        "captured": 20, "delivered": 17, "duplicate": 3,
    }  # fmt: skip


# --- other places ---------------------------------------------------------------------------------


async def test_an_async_view(recorder: Recorder, database: str) -> None:
    async def view(request: Any) -> HttpResponse:
        request.analytics.capture("on_the_loop")
        await sync_to_async(_buy)(request.analytics)
        return HttpResponse("ok")

    def _buy(analytics: Any) -> None:
        with transaction.atomic():
            order()
            analytics.capture("in_a_thread")
        close_connection("default")

    await sync_to_async(close_connection)(database)  # that thread may have one of an earlier test
    with site(recorder, view):
        sent = await asgi(ASGIHandler(), "/view/")
    assert sent[0]["status"] == 200
    assert await sync_to_async(rows)(database, "inbox") == 2
    assert sorted(await sync_to_async(delivered)(recorder)) == ["in_a_thread", "on_the_loop"]
    await sync_to_async(close_connection)(database)


def test_a_thread_without_a_connection_gets_none(recorder: Recorder) -> None:
    opened: list[bool] = []

    def work() -> None:
        recorder.client.bind(user_id="user_1").capture("elsewhere")
        opened.append(hasattr(connections._connections, "default"))  # type: ignore[attr-defined]

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert opened == [False]
    assert delivered(recorder) == ["elsewhere"]


def test_a_thread_of_delivery_leaves_alone_a_connection_that_other_code_has_opened_there(
    recorder: Recorder, database: str
) -> None:
    used: list[int] = []

    def work() -> None:
        connections["default"].ensure_connection()
        with CaptureQueriesContext(connections["default"]) as queries:
            recorder.client.bind(user_id="user_1").capture("elsewhere")
        used.append(len(queries))
        close_connection("default")

    for name in ("sessionsight-worker_0", "of_the_app"):
        thread = Thread(target=work, name=name)
        thread.start()
        thread.join()
    assert used == [0, 1]
    assert rows(database, "inbox") == 2


def test_a_test_that_records_sees_commits(recorder: Recorder) -> None:
    with record() as seen:
        with suppress(Refund), transaction.atomic():
            recorder.client.bind(user_id="user_1").capture("lost")
            raise Refund
        with transaction.atomic():
            recorder.client.bind(user_id="user_1").capture("kept")
        seen.assert_captured("kept")
        assert [one.name for one in seen.captured] == ["kept"]


def test_the_transaction_of_a_test_case_is_none_of_the_apps(recorder: Recorder, database: str) -> None:
    class Case(TestCase):
        def test(self) -> None:
            analytics = recorder.client.bind(user_id="user_1")
            assert join.join_transaction("default", None) is None
            with transaction.atomic():
                analytics.capture("kept")
            with suppress(Refund), transaction.atomic():
                analytics.capture("lost")
                raise Refund
            assert rows("default", "inbox") == 1

    result = unittest.TestResult()
    unittest.TestSuite([Case("test")]).run(result)
    assert result.wasSuccessful(), result.errors + result.failures
    assert rows(database, "inbox") == 0  # rolled back with the test's transaction


# --- the client of the settings ---------------------------------------------------------------------


def test_the_client_of_the_settings_joins() -> None:
    options = {"DESTINATIONS": {"analyse": {"public_key": "pk_live_1"}}, "DELIVERY": "relay"}
    with override_settings(SESSIONSIGHT={**options, "SPOOL": "django"}):
        assert clients.client().join_transaction is not None
    with override_settings(SESSIONSIGHT={**options, "SPOOL": "sqlite:///spool.db"}):
        assert clients.client().join_transaction is None


def test_an_unknown_database_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="DATABASES does not contain 'defautl'; did you mean 'default'"):
        outbox_recorder("django:defautl")


def test_a_response_cannot_wait_for_what_is_in_a_transaction() -> None:
    with pytest.raises(ConfigurationError, match="flush=\"inline\" cannot wait for the records of spool='django'"):
        Settings(spool="django", flush="inline")


# --- without tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_without_tables_the_transaction_is_unharmed_and_records_wait_in_memory(
    engine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with outbox_database(engine, tmp_path, "default", migrate=False) as alias:
        with connections[alias].cursor() as cursor:
            cursor.execute("CREATE TABLE orders (id INTEGER, PRIMARY KEY (id))")
        recorder = outbox_recorder()
        analytics = recorder.client.bind(user_id="user_1")
        with transaction.atomic():
            order()
            analytics.capture("kept")
        with suppress(Refund), transaction.atomic():
            order()
            analytics.capture("lost")
            raise Refund
        assert orders() == 1
        assert "run manage.py migrate" in caplog.text
        lane = recorder.client.stats().lanes["analyse"]
        assert (lane.captured, lane.pending) == (2, 1)
        recorder.client.shutdown(0)
