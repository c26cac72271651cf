"""The outbox on databases that are down, slow, full, read-only, emptied, newer or cut off."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.outbox_databases import ENGINES, close_connection, outbox_database, outbox_spool, outbox_store, rows

# isort: split
from django.db import DatabaseError, connections, transaction

from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.stores import AnswerLost, DeadLetterQuery, Failure, Outcome, StoreUnavailable
from sessionsight_django.outbox.store import DjangoStore
from tests.adapters.django_orders import Refund, order, orders
from tests.adapters.test_django_outbox import delivered, outbox_recorder
from tests.core.delivery.kit import event, goal, labels
from tests.core.delivery.spools import LANE, claim, counts, enter
from tests.support.databases import TABLES, execute_on_server
from tests.support.tcp_proxy import TcpProxy

on_servers = pytest.mark.parametrize("engine", ["postgresql", "mariadb"], indirect=True)
on_sqlite = pytest.mark.parametrize("engine", ["sqlite_orm"], indirect=True)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(engine: str, tmp_path: Path) -> Iterator[str]:
    with outbox_database(engine, tmp_path, "default") as alias:
        execute("CREATE TABLE orders (id INTEGER, PRIMARY KEY (id))")
        close_connection(alias)  # an open one would be used for records too
        yield alias


@pytest.fixture
def proxy(database: str) -> Iterator[TcpProxy]:
    """Between this process and the server."""
    settings = connections.settings[database]
    with TcpProxy(settings["HOST"], int(settings["PORT"])) as proxy:
        settings.update(HOST="127.0.0.1", PORT=str(proxy.port))
        if settings["ENGINE"].endswith("postgresql"):
            settings["OPTIONS"] = {"sslmode": "disable"}  # the proxy reads what it passes on
        yield proxy


class UnusableFile:
    """A SQLite file in a folder that has become read-only: no journal can be created."""

    def __init__(self, path: str) -> None:
        self._journal = Path(f"{path}-journal")

    def refuse(self) -> None:
        self._journal.mkdir()

    def accept(self) -> None:
        self._journal.rmdir()


@pytest.fixture
def outage(engine: str, database: str, request: pytest.FixtureRequest) -> TcpProxy | UnusableFile:
    """Lets the database refuse and accept."""
    if engine == "sqlite_orm":
        return UnusableFile(connections.settings[database]["NAME"])
    proxy: TcpProxy = request.getfixturevalue("proxy")
    return proxy


def execute(statement: str) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute(statement)


def maintain(spool: DurableSpool) -> None:
    """Run the maintenance when it is due next. A cool-down after a failure is over by then."""
    spool.clock.advance(10.0)  # type: ignore[attr-defined]
    spool.lane(LANE).maintain()


def close(spool: DurableSpool) -> int:
    lost = spool.lane(LANE).close()
    spool.close()
    return lost


# --- out of reach -----------------------------------------------------------------------------------


def test_a_database_that_is_down_at_the_start_gets_the_records_later(database: str, outage: Any) -> None:
    outage.refuse()
    spool = outbox_spool(database, LANE)
    queue = spool.lane(LANE)
    enter(spool, [event("a"), goal("g", key="order:1")])
    maintain(spool)
    assert counts(queue) == {"captured": 2, "pending": 2}
    sent = claim(queue, 9)
    assert labels(sent) == ["a"]  # the other has a key, which only the database knows
    queue.ack(sent)

    outage.accept()
    maintain(spool)

    assert counts(queue) == {"captured": 2, "delivered": 1, "pending": 1}
    assert labels(claim(queue, 2)) == ["g"]
    assert close(spool) == 0


def test_a_database_that_is_down_for_a_time_keeps_everything(database: str, outage: Any) -> None:
    spool = outbox_spool(database, LANE)
    queue = spool.lane(LANE)
    enter(spool, [goal("a"), event("b"), event("c")])
    a, b = claim(queue, 2)
    assert queue.mark_in_flight([a], durably=True) == [a]
    outage.refuse()
    enter(spool, [event("d")])
    queue.ack([a])
    assert queue.mark_in_flight([b], durably=True) is None

    outage.accept()
    maintain(spool)

    assert queue.mark_in_flight([b], durably=True) == [b]
    queue.ack([b])
    assert sorted(labels(claim(queue, 9))) == ["c", "d"]
    assert counts(queue) == {"captured": 4, "delivered": 2, "pending": 2}
    assert close(spool) == 0


def test_a_database_that_is_down_at_the_end_loses_what_is_in_memory(database: str, outage: Any) -> None:
    spool = outbox_spool(database, LANE)
    enter(spool, [event("a")])
    outage.refuse()
    enter(spool, [event("b")])

    assert close(spool) == 1


@on_servers
def test_a_server_that_hangs_is_waited_for_no_longer_than_the_timeout(database: str, proxy: TcpProxy) -> None:
    spool = outbox_spool(database, LANE, spool_timeout=0.05)
    queue = spool.lane(LANE)
    proxy.hold()  # from the first connection on
    enter(spool, [event("a")])
    enter(spool, [event("b")])
    proxy.release()
    maintain(spool)
    enter(spool, [event("c")])
    proxy.hold()  # an open connection
    enter(spool, [goal("d")])
    proxy.release()
    maintain(spool)
    maintain(spool)

    assert counts(queue) == {"captured": 4, "pending": 4}
    assert sorted(labels(claim(queue, 9))) == ["a", "b", "c", "d"]
    assert close(spool) == 0


CALLS: tuple[Callable[[DjangoStore], object], ...] = (
    lambda store: store.claim(LANE, max_records=9, max_bytes=999, timeout=0.01),
    lambda store: store.claimed(LANE),
    lambda store: store.mark_in_flight(LANE, [1], timeout=0.01),
    lambda store: store.settle(LANE, [Outcome(handles=[1], counter="delivered")], timeout=0.01),
    lambda store: store.counts(LANE),
    lambda store: store.recover(None, Failure(reason="internal_error", message="")),
    lambda store: store.stats(),
    lambda store: store.find(DeadLetterQuery()),
    lambda store: store.requeue(DeadLetterQuery()),
    lambda store: store.delete(DeadLetterQuery(), counter="erased"),
    lambda store: store.maintain(),
)


@on_servers
def test_no_call_waits_without_a_limit_for_a_server_that_hangs(
    database: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = outbox_store(database)
    for call in CALLS:  # the first one hangs while it connects
        proxy.hold()
        with monkeypatch.context() as limited:
            limited.setattr("sessionsight.sql_store.connection.ANSWER_TIMEOUT", 0.05)
            limited.setattr(store, "_timeout", 0.01)
            with pytest.raises(AnswerLost, match=r"has not answered within 0\.05 s: look whether its server hangs"):
                call(store)
        proxy.release()
        store.ready()  # after what has waited
    store.close()


@on_sqlite
def test_a_file_that_is_locked_is_waited_for_no_longer_than_the_timeout(database: str) -> None:
    spool = outbox_spool(database, LANE, spool_timeout=0.05)
    queue = spool.lane(LANE)
    with closing(sqlite3.connect(connections.settings[database]["NAME"])) as other:
        for label in ("a", "b"):  # the second with an open connection
            other.execute("BEGIN EXCLUSIVE")
            enter(spool, [goal(label)])
            other.rollback()
            maintain(spool)
    maintain(spool)
    assert counts(queue) == {"captured": 2, "pending": 2}
    assert sorted(labels(claim(queue, 9))) == ["a", "b"]
    assert close(spool) == 0


@on_servers
def test_a_process_ends_although_the_server_hangs(database: str, proxy: TcpProxy) -> None:
    recorder = outbox_recorder(spool_timeout=0.05)
    recorder.client.bind(user_id="user_1").capture("kept")
    proxy.hold()
    recorder.client.bind(user_id="user_1").capture("unknown")
    recorder.client.shutdown(0)


@on_servers
@pytest.mark.parametrize("times", [1, 2])
def test_a_write_whose_answer_is_lost_is_repeated_without_doubling(database: str, proxy: TcpProxy, times: int) -> None:
    spool = outbox_spool(database, LANE)
    queue = spool.lane(LANE)
    enter(spool, [event("a")])
    proxy.lose_answer(b"COMMIT")
    enter(spool, [event("b", key="k"), goal("g")])
    for _ in range(times - 1):
        proxy.lose_answer(b"COMMIT")
        maintain(spool)
    maintain(spool)
    maintain(spool)

    assert counts(queue) == {"captured": 3, "pending": 3}
    assert sorted(labels(claim(queue, 9))) == ["a", "b", "g"]
    assert close(spool) == 0


@on_servers
def test_a_record_outside_a_transaction_whose_answer_is_lost_counts_once(database: str, proxy: TcpProxy) -> None:
    recorder = outbox_recorder()
    execute("SELECT 1")  # its connection is used
    proxy.lose_answer(b"sessionsight_inbox")
    recorder.client.bind(user_id="user_1").capture("once", key="k")
    close_connection(database)

    assert recorder.client.flush(20)
    assert delivered(recorder) == ["once"]
    recorder.client.shutdown(0)


@on_servers
def test_a_connection_that_is_lost_within_a_transaction_is_reported_to_the_app(database: str, proxy: TcpProxy) -> None:
    recorder = outbox_recorder()

    def buy() -> None:
        with transaction.atomic():
            order()
            proxy.cut()
            recorder.client.bind(user_id="user_1").capture("lost")

    with pytest.raises(DatabaseError):
        buy()
    close_connection(database)
    assert orders() == 0
    assert delivered(recorder) == []
    recorder.client.shutdown(0)


# --- writes that are refused --------------------------------------------------------------------------


@contextmanager
def full_disk(engine: str) -> Iterator[None]:
    """A database that has no space for more rows of the inbox."""
    if engine == "postgresql":
        execute(
            "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
        )
        execute("CREATE TRIGGER no_space BEFORE INSERT ON sessionsight_inbox FOR EACH ROW EXECUTE FUNCTION no_space()")
        yield
        execute("DROP TRIGGER no_space ON sessionsight_inbox")
        return
    errors = {
        "mariadb": "FOR EACH ROW SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'",
        "sqlite_orm": "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    }
    execute(f"CREATE TRIGGER no_space BEFORE INSERT ON sessionsight_inbox {errors[engine]}")
    yield
    execute("DROP TRIGGER no_space")


@contextmanager
def read_only(engine: str) -> Iterator[None]:
    """A database that cannot be written by the app."""
    settings = connections.settings["default"]
    before = dict(settings)
    name = before["NAME"]
    reader = name[:32]
    if engine == "sqlite_orm":
        settings.update(NAME=f"file:{name}?mode=ro", OPTIONS={**settings["OPTIONS"], "uri": True})
    elif engine == "postgresql":
        execute_on_server(engine, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    else:
        execute_on_server(engine, f"CREATE USER {reader}@'%'")
        execute_on_server(engine, f"GRANT SELECT ON {name}.* TO {reader}@'%'")
        settings["USER"] = reader
    close_connection("default")
    yield
    settings.update(before)
    if engine == "postgresql":
        execute_on_server(engine, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    elif engine == "mariadb":
        execute_on_server(engine, f"DROP USER {reader}@'%'")
    close_connection("default")


@contextmanager
def newer_version(engine: str) -> Iterator[None]:
    """Tables that a newer release has changed."""
    execute("ALTER TABLE sessionsight_inbox RENAME COLUMN created_at TO captured_at")
    close_connection("default")
    yield
    execute("ALTER TABLE sessionsight_inbox RENAME COLUMN captured_at TO created_at")


REFUSALS = [full_disk, read_only, newer_version]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_database_that_accepts_nothing_gets_the_records_later(
    engine: str, database: str, refusal: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spool = outbox_spool(database, LANE)
    queue = spool.lane(LANE)
    with refusal(engine):
        enter(spool, [event("a"), goal("g", key="order:1")])
        maintain(spool)
        sent = claim(queue, 9)
        assert labels(sent) == ["a"]
        queue.ack(sent)
        assert counts(queue) == {"captured": 2, "delivered": 1, "pending": 1}
    maintain(spool)
    maintain(spool)
    assert counts(queue) == {"captured": 2, "delivered": 1, "pending": 1}
    assert labels(claim(queue, 2)) == ["g"]
    assert caplog.text.count("records are kept in memory until it can be used") == 1
    assert close(spool) == 0


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_transaction_of_the_app_goes_on_although_its_records_are_not_accepted(
    engine: str, database: str, refusal: Any
) -> None:
    recorder = outbox_recorder()
    with refusal(engine):
        with transaction.atomic():
            recorder.client.bind(user_id="user_1").capture("kept")
            assert orders() == 0
        with suppress(Refund), transaction.atomic():
            recorder.client.bind(user_id="user_1").capture("lost")
            raise Refund
    close_connection(database)
    assert recorder.client.flush(20)
    assert delivered(recorder) == ["kept"]
    recorder.client.shutdown(0)


@on_sqlite
def test_a_full_disk_that_ends_the_transaction_is_reported_to_the_app(database: str) -> None:
    recorder = outbox_recorder()

    def buy(text: str) -> None:
        with transaction.atomic():
            order()
            recorder.client.bind(user_id="user_1").capture("bought", {"text": text})

    buy("")  # later ones have no savepoint
    with connections[database].cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")
    with pytest.raises(DatabaseError, match="full"):
        buy("x" * 50_000)
    assert orders() == 1
    close_connection(database)
    assert delivered(recorder) == ["bought"]
    recorder.client.shutdown(0)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_one_transaction_that_is_read_only_protects_all_later_ones(engine: str, database: str) -> None:
    recorder = outbox_recorder()

    def read() -> None:
        with transaction.atomic():
            execute("SET TRANSACTION READ ONLY")
            recorder.client.bind(user_id="user_1").capture("read")
            assert orders() == 1

    def buy() -> None:
        with transaction.atomic():
            order()
            recorder.client.bind(user_id="user_1").capture("bought")

    buy()
    with pytest.raises(DatabaseError):
        read()
    with transaction.atomic():
        recorder.client.bind(user_id="user_1").capture("bought")
    read()
    assert recorder.client.flush(20)
    assert sorted(delivered(recorder)) == ["bought", "bought", "read"]
    recorder.client.shutdown(0)


# --- other contents -----------------------------------------------------------------------------------


def test_a_database_that_is_emptied_loses_what_it_had_and_takes_what_comes(database: str) -> None:
    spool = outbox_spool(database, LANE)
    queue = spool.lane(LANE)
    enter(spool, [event("a"), goal("g"), event("b")])
    claimed = claim(queue, 3)
    for table in TABLES:
        execute(f"DELETE FROM sessionsight_{table}")

    assert queue.mark_in_flight(claimed, durably=True) == []
    enter(spool, [event("c")])
    maintain(spool)

    assert labels(claim(queue, 9)) == ["c"]
    assert counts(queue) == {"captured": 1, "pending": 1}
    assert close(spool) == 0
    assert rows(database, "queue") == 1


def test_a_poisoned_body_becomes_a_dead_letter_and_the_rest_goes_on(database: str) -> None:
    spool = outbox_spool(database, LANE)
    queue = spool.lane(LANE)
    enter(spool, [event("a"), event("b")])
    assert queue.depth()[0] == 2
    maintain(spool)  # takes them in
    with connections[database].cursor() as cursor:
        cursor.execute("SELECT min(id) FROM sessionsight_queue")
        cursor.execute("UPDATE sessionsight_queue SET body = %s WHERE id = %s", [b"\xc1 newer", cursor.fetchone()[0]])

    assert labels(claim(queue, 2)) == ["b"]

    assert counts(queue) == {"captured": 2, "pending": 1, "dead": 1}
    assert queue.dead_letters() == []  # it cannot be read
    assert close(spool) == 0


async def test_an_event_loop_is_not_blocked_by_a_write(database: str) -> None:
    spool = outbox_spool(database, LANE)
    with pytest.raises(StoreUnavailable, match="cannot be used on an event loop"):
        spool.store.enqueue([], {}, batch_id=b"0", timeout=1.0)
    spool.close()
