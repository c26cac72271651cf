"""Records that are captured in transactions of SQLAlchemy, and written by them into the outbox of their database."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Delete, Engine, Update, create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from sessionsight import Client, ConfigurationError, InvalidEventError, MissingDependencyError, Settings
from sessionsight.destinations import Console, Signal
from sessionsight.diagnosis import check, sql_database
from sessionsight.diagnosis.reachability import check_reachability
from sessionsight.relay import Relay
from sessionsight.request.context import TrackingContext
from sessionsight.sql_store import connection as sql_connection
from sessionsight.sqlalchemy import bind, metadata
from sessionsight.sqlalchemy.connection import Cursor, own_connection
from sessionsight.stores import AnswerLost, StoreBusy, StoreUnavailable
from sessionsight.testing import record
from tests.adapters.recording import Recorder
from tests.core.cli.commands import run, start
from tests.core.delivery.kit import tally
from tests.core.sqlalchemy_databases import DRIVERS, ENGINES, execute, rows, sqlalchemy_database, sqlalchemy_store
from tests.support.own_transactions import transaction
from tests.support.server import Server


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


class Refund(Exception):
    """Ends a block."""


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with sqlalchemy_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def make(engine: Engine) -> sessionmaker[Session]:
    maker = sessionmaker(engine)
    bind(maker, outbox=True)
    return maker


def outbox_recorder(url: str, **settings: Any) -> Recorder:
    """A client whose records stay in the outbox until a relay is run."""
    return Recorder(**{"spool": f"sqlalchemy:{url}", "delivery": "relay", "spool_timeout": 20.0, **settings})


@pytest.fixture
def recorder(database: str) -> Iterator[Recorder]:
    recorder = outbox_recorder(database)
    yield recorder
    recorder.client.shutdown(0)


@pytest.fixture
def capture(recorder: Recorder) -> Callable[..., Any]:
    return recorder.client.bind(user_id="user_1").capture


def delivered(recorder: Recorder) -> list[str]:
    """Run a relay until nothing is left, and return the names of all events that have arrived so far."""
    assert recorder.client.flush(20)  # a commit in an event loop leaves the write to a thread
    relay = Relay(Client(recorder.client.settings, make_transport=lambda _: recorder))
    relay.start()
    assert relay._engine.flush(float("inf"))
    assert not any(lane.ready or lane.last_error for lane in relay.stop())
    return recorder.arrived


def inserts(engine: Engine) -> list[str]:
    """The statements that connections of an engine write the inbox with, from now on."""
    found: list[str] = []

    def executed(_: object, __: object, statement: str, *___: object) -> None:
        if "sessionsight_inbox" in statement:
            found.append(statement)

    event.listen(engine, "before_cursor_execute", executed)
    return found


def counts(recorder: Recorder) -> dict[str, int]:
    return tally(recorder.client.stats().lanes["analyse"])


on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


# --- transactions ---------------------------------------------------------------------------------


def test_records_share_the_fate_of_their_transaction(recorder: Recorder, make: Any, capture: Any) -> None:
    with make.begin() as session:
        session.add(Order(id=1))
        capture("outer")
        with session.begin_nested():
            capture("released")
        with suppress(Refund), session.begin_nested():
            capture("lost")
            raise Refund
    with suppress(Refund), make.begin() as session:
        session.add(Order(id=2))
        capture("lost_as_well")
        raise Refund
    capture("outside")

    assert sorted(delivered(recorder)) == ["outer", "outside", "released"]
    assert counts(recorder) == {"captured": 5, "delivered": 3, "rolled_back": 2}


def test_all_records_of_a_transaction_are_one_row_on_its_connection(
    recorder: Recorder, engine: Engine, make: Any, capture: Any, database: str
) -> None:
    written = inserts(engine)
    seen: list[int] = []
    event.listen(engine, "commit", lambda _: seen.append(rows(database, "inbox")))
    for number in (1, 2):
        with make.begin() as session:
            session.add(Order(id=number))
            capture("a")
            with session.begin_nested():
                capture("b")
    assert len(written) == 2
    assert (seen, rows(database, "inbox")) == ([0, 1], 2)
    assert delivered(recorder) == ["a", "b", "a", "b"]


def test_what_is_captured_by_the_flush_of_the_commit_is_written_as_well(
    recorder: Recorder, engine: Engine, make: Any, capture: Any
) -> None:
    written = inserts(engine)
    with make.begin() as session:
        event.listen(session, "after_flush", lambda *_: capture("flushed"))
        session.add(Order(id=1))
    assert len(written) == 1
    assert delivered(recorder) == ["flushed"]


def test_a_transaction_that_only_reads(recorder: Recorder, make: Any, capture: Any, database: str) -> None:
    with make.begin() as session:
        session.execute(select(Order))
        capture("read")
    assert rows(database, "inbox") == 1
    assert delivered(recorder) == ["read"]


@on_postgresql
def test_a_session_that_has_not_used_its_database_does_not_need_it(
    recorder: Recorder, engine: Engine, capture: Any, database: str
) -> None:
    down = create_engine(engine.url.set(port=1))
    alone = sessionmaker(down)
    beside = sessionmaker(engine, binds={metadata.tables["sessionsight_inbox"]: down})
    bind(alone, outbox=True)
    bind(beside, outbox=True)
    with alone.begin():
        capture("alone")
    with beside.begin() as session:
        session.add(Order(id=1))
        capture("beside")
    assert execute(database, "SELECT id FROM orders") == [(1,)]
    assert delivered(recorder) == ["alone", "beside"]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_many_large_records_do_not_exceed_a_packet_of_the_database(
    recorder: Recorder, make: Any, capture: Any, database: str
) -> None:
    with make.begin() as session:
        session.add(Order(id=1))
        for _ in range(250):
            capture("large", {"text": "x" * 65_000})
    assert rows(database, "inbox") == 3
    assert counts(recorder)["captured"] == 250


def test_a_record_for_no_destination_writes_nothing(recorder: Recorder, make: Any, database: str) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    with make.begin():
        analytics.goals.increment("monthly-revenue", session_id="session-1")
    assert rows(database, "inbox") == 0
    assert analytics._scope._deferred is not None
    assert analytics._scope._deferred.pending == {}


@on_postgresql
def test_a_read_only_transaction_is_committed_and_its_records_are_sent_after_it(
    recorder: Recorder, make: Any, capture: Any
) -> None:
    for read_only in (False, True, True):
        with make.begin() as session:
            session.connection(execution_options={"postgresql_readonly": read_only})
            capture("read")
    assert delivered(recorder) == ["read", "read", "read"]


def test_a_commit_that_fails_after_the_write_leaves_nothing(
    recorder: Recorder, make: Any, capture: Any, database: str
) -> None:
    fails = [True]

    def fail(session: Session) -> None:
        if fails:
            raise Refund

    event.listen(make, "before_commit", fail)
    with suppress(Refund), make.begin() as session:
        session.add(Order(id=1))
        capture("lost")
    with make() as session:
        session.add(Order(id=1))
        capture("kept")
        with suppress(Refund):
            session.commit()
        fails.clear()
        session.commit()  # does not write it again
    assert rows(database, "inbox") == 2  # the count of the first, and the record
    assert delivered(recorder) == ["kept"]
    assert counts(recorder) == {"captured": 2, "delivered": 1, "rolled_back": 1}


def test_a_savepoint_that_is_left_open_at_the_commit(recorder: Recorder, make: Any, capture: Any) -> None:
    with make.begin() as session:
        session.begin_nested()
        capture("inside")
    assert delivered(recorder) == ["inside"]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)  # SQLite's driver needs a recipe as well
def test_in_the_recipe_for_tests_the_test_rolls_back_the_outbox(
    recorder: Recorder, engine: Engine, make: Any, capture: Any, database: str
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with make(bind=connection, join_transaction_mode="create_savepoint") as session:
            session.add(Order(id=1))
            capture("committed")
            session.commit()
            assert connection.scalar(text("SELECT count(*) FROM sessionsight_inbox")) == 1
        outer.rollback()
    assert rows(database, "inbox") == 0


def test_a_recorder_sees_records_after_the_commit(make: Any, capture: Any) -> None:
    with record() as seen:
        with make.begin():
            capture("kept")
            assert seen.captured == []
        with suppress(Refund), make.begin():
            capture("lost")
            raise Refund
        seen.assert_captured("kept")
        assert [one.name for one in seen.captured] == ["kept"]


@on_sqlite
def test_a_record_may_demand_a_transaction_that_writes_it(make: Any, engine: Engine, database: str) -> None:
    recorder = outbox_recorder(database, strict=True)
    capture = recorder.client.bind(user_id="user_1").capture
    held = sessionmaker(engine)
    bind(held)
    with held.begin() as other:
        with pytest.raises(InvalidEventError, match=r"in_transaction: .*bind\(outbox=True\)"):
            capture("without_outbox", in_transaction=True)
        with make.begin() as session:
            capture("written", in_transaction=True)
            capture("named", in_transaction=True, using=session)
            with pytest.raises(InvalidEventError, match="in_transaction"):
                capture("of_the_other", in_transaction=True, using=other)
    for closed in ({}, {"using": session}):
        with pytest.raises(InvalidEventError, match="in_transaction"):
            capture("outside", in_transaction=True, **closed)
    assert delivered(recorder) == ["written", "named"]
    recorder.client.shutdown(0)


@on_sqlite
def test_a_demand_is_logged_outside_of_strict_mode(database: str, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    recorder = outbox_recorder(database, strict=False)
    capture = recorder.client.bind(user_id="user_1").capture
    assert capture("outside", in_transaction=True).accepted
    assert "in_transaction: the record cannot be part of a transaction" in caplog.text
    with record() as recorded, make.begin():
        capture("recorded", in_transaction=True)
    recorded.assert_captured("recorded")
    assert "outside" in delivered(recorder)
    recorder.client.shutdown(0)


def test_a_session_may_be_bound_in_its_transaction(
    recorder: Recorder, engine: Engine, capture: Any, database: str
) -> None:
    with Session(engine) as session:
        session.execute(select(Order))
        bind(session, outbox=True)
        capture("inside")
        session.commit()
    assert rows(database, "inbox") == 1
    assert delivered(recorder) == ["inside"]


def test_the_process_delivers_by_itself_unless_there_is_a_relay(make: Any, database: str) -> None:
    recorder = outbox_recorder(database, delivery="background")
    with make.begin() as session:
        session.add(Order(id=1))
        recorder.client.bind(user_id="user_1").capture("bought")
    assert recorder.names() == ["bought"]
    recorder.client.shutdown(0)


# --- writes that fail -----------------------------------------------------------------------------


def break_inbox(session: Session) -> None:
    """Make the next statement on the inbox fail in this session only."""
    if session.get_bind().dialect.name == "sqlite":
        trigger = (
            "CREATE TEMP TRIGGER refuse BEFORE INSERT ON sessionsight_inbox BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        session.execute(text(trigger))
    else:
        session.execute(text("SET LOCAL search_path TO pg_catalog"))


@pytest.mark.parametrize("database", ["postgresql", "sqlite"], indirect=True)
def test_a_first_write_that_fails_leaves_the_transaction_and_its_records_are_sent_after_it(
    recorder: Recorder, make: Any, capture: Any, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with make.begin() as session:
        session.add(Order(id=1))
        session.flush()
        break_inbox(session)
        capture("bought")
    assert execute(database, "SELECT id FROM orders") == [(1,)]
    assert "the outbox could not be written in a transaction of SQLAlchemy" in caplog.text
    assert delivered(recorder) == ["bought"]


@on_sqlite
def test_a_fault_of_the_driver_leaves_the_transaction(
    recorder: Recorder, make: Any, capture: Any, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object, __: object, statement: str, *___: object) -> None:
        if "sessionsight_inbox" in statement:
            raise TypeError("bytes cannot be sent")

    event.listen(make.kw["bind"], "before_cursor_execute", fail)
    with make.begin() as session:
        session.add(Order(id=1))
        capture("bought")
    assert execute(database, "SELECT id FROM orders") == [(1,)]
    assert "could not be written in a transaction of SQLAlchemy: bytes cannot be sent" in caplog.text
    assert delivered(recorder) == ["bought"]


@on_sqlite
def test_if_one_of_several_rows_cannot_be_written_none_is(
    recorder: Recorder, make: Any, capture: Any, database: str
) -> None:
    with make.begin() as session:
        session.add(Order(id=1))
        session.flush()
        session.execute(
            text(
                "CREATE TEMP TRIGGER refuse BEFORE INSERT ON sessionsight_inbox"
                " WHEN EXISTS (SELECT 1 FROM sessionsight_inbox) BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
        )
        for _ in range(101):
            capture("bought")
    assert execute(database, "SELECT id FROM orders") == [(1,)]
    assert len(delivered(recorder)) == 101


@on_postgresql
def test_a_later_write_that_fails_is_an_error_of_the_commit_where_it_ends_the_transaction(
    recorder: Recorder, make: Any, capture: Any, database: str
) -> None:
    with make.begin() as session:
        session.add(Order(id=3))
        capture("first")
    with make() as session:
        session.add(Order(id=1))
        session.flush()
        break_inbox(session)
        capture("second")
        with pytest.raises(DBAPIError):
            session.commit()
    assert execute(database, "SELECT id FROM orders") == [(3,)]
    with make.begin() as session:  # protected again
        session.add(Order(id=2))
        session.flush()
        break_inbox(session)
        capture("third")
    assert delivered(recorder) == ["first", "third"]
    assert counts(recorder) == {"captured": 3, "delivered": 2, "rolled_back": 1}


@on_postgresql
@pytest.mark.parametrize("writes_before", [0, 1])
def test_a_serialization_failure_is_an_error_of_the_commit_only(
    recorder: Recorder, engine: Engine, capture: Any, caplog: pytest.LogCaptureFixture, writes_before: int
) -> None:
    maker = sessionmaker(engine.execution_options(isolation_level="SERIALIZABLE"))
    bind(maker, outbox=True)
    for _ in range(writes_before):  # later ones have no savepoint
        with maker.begin() as session:
            session.add(Order(id=3))
            capture("first")
    with maker() as session, maker() as other:
        for number, each in enumerate((session, other)):
            each.scalars(select(Order)).all()
            each.add(Order(id=number))
            each.flush()
        other.commit()
        capture("lost", using=session)
        with pytest.raises(DBAPIError, match="could not serialize access"):
            session.commit()
    assert delivered(recorder) == ["first"] * writes_before
    assert "could not be written" not in caplog.text


@on_postgresql
def test_records_of_a_transaction_that_has_failed_before_are_lost_with_it(
    recorder: Recorder, make: Any, capture: Any
) -> None:
    with make.begin() as session:
        session.execute(insert(Order).values(id=1))
        with suppress(DBAPIError):
            session.execute(text("SELECT * FROM no_such_table"))
        capture("lost")
    assert delivered(recorder) == []


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_lost_connection_is_an_error_of_the_commit(
    recorder: Recorder, make: Any, capture: Any, database: str
) -> None:
    with make() as session:
        session.add(Order(id=1))
        session.flush()
        if not database.startswith("postgresql"):
            execute(database, f"KILL {session.scalar(text('SELECT connection_id()'))}")
        else:
            execute(database, f"SELECT pg_terminate_backend({session.scalar(text('SELECT pg_backend_pid()'))}, 5000)")
        capture("lost")
        with pytest.raises(DBAPIError):
            session.commit()
    assert delivered(recorder) == []


@pytest.mark.parametrize("engine_name", ENGINES)
def test_without_tables_the_transaction_is_unharmed_and_records_wait_in_memory(
    engine_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlalchemy_database(engine_name, tmp_path, create=False) as url:
        engine = create_engine(url, poolclass=NullPool)
        Base.metadata.create_all(engine)
        maker = sessionmaker(engine)
        bind(maker, outbox=True)
        recorder = outbox_recorder(url)
        with maker.begin() as session:
            session.add(Order(id=1))
            recorder.client.bind(user_id="user_1").capture("bought")
        assert execute(url, "SELECT id FROM orders") == [(1,)]
        assert "create those of sessionsight.sqlalchemy.metadata" in caplog.text
        lane = recorder.client.stats().lanes["analyse"]
        assert (lane.captured, lane.pending) == (1, 1)
        recorder.client.shutdown(0)


@on_sqlite
def test_a_record_that_cannot_be_written_is_left_to_memory(recorder: Recorder, make: Any) -> None:
    wrong: Any = object()
    analytics = recorder.client.bind()
    analytics._scope._context = TrackingContext(user_id=wrong)
    with make.begin() as session:
        session.add(Order(id=1))
        analytics.capture("odd")
    assert rows(recorder.client.settings.spool.removeprefix("sqlalchemy:"), "inbox") == 0
    assert counts(recorder)["captured"] == 1


# --- which database ---------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize(
    ("spool", "message"),
    [
        ("memory", "bind(outbox=True) writes into the tables of spool='sqlalchemy:<URL of the session's database>', "),
        ("sqlalchemy:sqlite:///other.db", "but the spool is 'sqlalchemy:sqlite:///other.db', from which records are "),
        (
            f"sqlalchemy:postgresql+{DRIVERS['postgresql']}://shop:secret@db.example.com/shop",
            "db.example.com/shop', from which records ",
        ),
    ],
)
def test_a_spool_elsewhere_is_a_wrong_setting_and_records_are_sent_after_the_commit(
    make: Any, spool: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(spool=spool)
    with make.begin(), pytest.raises(ConfigurationError) as raised:
        recorder.client.bind(user_id="user_1").capture("strict")
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)
    recorder.client.shutdown(0)
    if spool == "memory":
        recorder = Recorder(spool=spool, strict=False)
        with make.begin() as session:
            session.add(Order(id=1))
            recorder.client.bind(user_id="user_1").capture("bought")
        assert recorder.names() == ["bought"]
        assert "the record is sent after the commit instead" in caplog.text


@pytest.mark.parametrize("database", ["postgresql", "sqlite"], indirect=True)
@pytest.mark.parametrize("of_the_engine", [True, False])
def test_without_transactions_records_are_sent_after_the_commit(
    recorder: Recorder, database: str, engine: Engine, caplog: pytest.LogCaptureFixture, *, of_the_engine: bool
) -> None:
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
    autocommit = create_engine(database, poolclass=NullPool, **(options if of_the_engine else {}))
    maker = sessionmaker(autocommit)
    bind(maker, outbox=True)
    lenient = outbox_recorder(database, strict=False)
    with maker() as session:
        session.connection(execution_options={} if of_the_engine else options)
        session.add(Order(id=1))
        if of_the_engine:
            with pytest.raises(ConfigurationError, match="has isolation_level='AUTOCOMMIT'"):
                recorder.client.bind(user_id="user_1").capture("strict")
        lenient.client.bind(user_id="user_1").capture("bought")
        session.commit()
    assert delivered(lenient) == ["bought"]
    assert "could not be written" not in caplog.text
    lenient.client.shutdown(0)


@on_sqlite
def test_after_the_commit_the_session_does_not_matter(make: Any) -> None:
    recorder = Recorder()
    session = make()
    session.begin()
    session.commit()
    recorder.client.bind(user_id="user_1").capture("outside")
    assert recorder.names() == ["outside"]
    recorder.client.shutdown(0)


@on_sqlite
def test_a_forgotten_session_counts_what_its_savepoints_have_rolled_back(
    recorder: Recorder, make: Any, capture: Any
) -> None:
    session = make()
    with suppress(Refund), session.begin_nested():
        capture("lost")
        raise Refund
    assert counts(recorder) == {}
    del session
    gc.collect()
    assert counts(recorder) == {"captured": 1, "rolled_back": 1}


@on_sqlite
def test_clients_that_are_disabled_and_tests_need_no_spool(make: Any) -> None:
    with make.begin() as session:
        Recorder(disabled=True).client.bind(user_id="user_1").capture("disabled")
        with record():
            Recorder().client.bind(user_id="user_1").capture("recorded")
            session.add(Order(id=1))
            session.commit()


@on_sqlite
def test_a_client_without_destinations_writes_nothing(make: Any, database: str) -> None:
    client = Client(Settings(spool=f"sqlalchemy:{database}"))
    with make.begin() as session:
        session.add(Order(id=1))
        client.bind(user_id="user_1").capture("bought")
    assert rows(database, "inbox") == 0


def test_a_store_that_the_delivery_has_opened_joins_no_transaction(recorder: Recorder) -> None:
    spool: Any = recorder.client._engine_for_process()._spool
    assert not spool.store.joins


@on_sqlite
def test_a_session_that_is_bound_by_table_needs_the_tables_of_the_outbox(
    recorder: Recorder, engine: Engine, capture: Any
) -> None:
    maker = sessionmaker(binds={Order: engine})
    bind(maker, outbox=True)
    with (
        maker() as session,
        session.begin(),
        pytest.raises(ConfigurationError, match=r"bind those of sessionsight\.sq"),
    ):
        capture("strict")


@on_sqlite
def test_an_engine_whose_connections_a_function_makes_is_taken_as_it_is(
    recorder: Recorder, engine: Engine, capture: Any
) -> None:
    maker = sessionmaker(create_engine("sqlite://", creator=lambda: engine.raw_connection().driver_connection))
    bind(maker, outbox=True)
    with maker.begin() as session:
        session.add(Order(id=1))
        capture("bought")
    assert delivered(recorder) == ["bought"]


class RoutingSession(Session):
    """Reads from a replica, as SQLAlchemy's documentation shows."""

    engines: dict[str, Engine]

    def get_bind(self, mapper: Any = None, clause: Any = None, **_: Any) -> Engine:
        return self.engines["leader" if self._flushing or isinstance(clause, (Update, Delete)) else "follower"]


class BoundByMapper(Session):
    """Has no engine for a table without a mapper."""

    def get_bind(self, mapper: Any = None, **_: Any) -> Engine:
        raise LookupError(f"no engine\nfor {mapper}")


@on_sqlite
def test_the_session_selects_an_engine_that_is_written(
    recorder: Recorder, engine: Engine, capture: Any, database: str
) -> None:
    RoutingSession.engines = {"leader": engine, "follower": create_engine("sqlite://")}
    routing, broken = sessionmaker(class_=RoutingSession), sessionmaker(class_=BoundByMapper)
    bind(routing, outbox=True)
    bind(broken, outbox=True)
    with routing.begin() as session:
        session.add(Order(id=1))
        capture("bought")
    assert rows(database, "inbox") == 1
    with (
        broken.begin(),
        pytest.raises(ConfigurationError, match=r"no engine for the tables .*\(no engine\\nfor None\)"),
    ):
        capture("strict")


# --- the setting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense://db.example.com/shop", "is not a URL of SQLAlchemy"),
        ("sqlite+aiosqlite:////tmp/shop.db", "has an async driver"),
        ("sqlite://", "SQLite files are supported"),
        ("mysql+pymysql://:port", "is not a URL of SQLAlchemy"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_wrong_setting(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Client(Settings(spool=f"sqlalchemy:{url}"))


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(MissingDependencyError, match="needs the driver pg8000"):
        Client(Settings(spool="sqlalchemy:postgresql+pg8000://db.example.com/shop"))


def test_settings_do_not_show_the_password() -> None:
    settings = Settings(spool="sqlalchemy:postgresql+psycopg://shop:secret@db.example.com/shop?sslmode=require")
    assert "spool='sqlalchemy:postgresql+psycopg://db.example.com/shop'" in repr(settings)
    with pytest.raises(ConfigurationError, match=r'flush="inline" cannot wait .*//db.example.com/shop'):
        Settings(spool=settings.spool, flush="inline")


# --- commands -----------------------------------------------------------------------------------------


def findings(url: str) -> list[tuple[str, str]]:
    settings = Settings(destinations=(Console(),), spool=f"sqlalchemy:{url}")
    return [(each.level, each.message) for each in check_reachability(Client(settings))]


def test_the_check_connects_and_reads_the_tables(database: str) -> None:
    [(level, message)] = findings(database)
    assert level == "ok"
    assert " answers (version " in message
    execute(database, "INSERT INTO sessionsight_inbox (batch_id, body, created_at) VALUES ('b', :body, 0)", body=b"")
    [(level, message)] = findings(database)
    assert level == "warning"
    assert "has records that no relay has taken in for" in message
    execute(database, "ALTER TABLE sessionsight_queue DROP COLUMN takeovers")
    [(level, message)] = findings(database)
    assert level == "error"
    assert "takeovers" in message or "does not exist" in message
    assert "\n" not in message
    execute(database, "DROP TABLE sessionsight_owner")
    [(level, message)] = findings(database)
    assert level == "error"
    assert message.endswith("the tables are missing: create those of sessionsight.sqlalchemy.metadata")


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_the_check_finds_an_old_server(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_database, "_OLDEST", dict.fromkeys(sql_database._OLDEST, (99, 0, 0)))
    [(level, message)] = findings(database)
    assert level == "error"
    assert message.endswith("which is too old")


@on_sqlite
def test_commands_read_the_spool(recorder: Recorder, capture: Any) -> None:
    capture("bought")
    output = run("spool", "stats", "--spool", recorder.client.settings.spool).output
    assert [line.split()[:2] for line in output.splitlines() if line.startswith("analyse")] == [["analyse", "1"]]
    [message] = [finding.message for finding in check(recorder.client) if finding.subject == "spool"]
    assert message == f"is {recorder.client.settings.spool}"


def test_commands_do_not_create_a_file(tmp_path: Path) -> None:
    path = tmp_path / "typo.db"
    result = run("spool", "stats", "--spool", f"sqlalchemy:sqlite:///{path}")
    assert f"the file {path} does not exist, so the tables are missing" in result.output
    assert not path.exists()


@pytest.mark.processes
def test_a_relay_delivers_what_was_committed(make: Any, database: str, tmp_path: Path) -> None:
    with Server() as server:
        destination = Signal(api_key="key", project_id="shop", endpoint=server.url)
        web = Recorder(
            destinations=(destination,), spool=f"sqlalchemy:{database}", delivery="relay", spool_timeout=20.0
        )
        with make.begin():
            web.client.bind(user_id="user_1").capture("bought")
        environ = {
            "SIGNAL_API_KEY": "key",
            "SIGNAL_PROJECT_ID": "shop",
            "SIGNAL_ENDPOINT": server.url,
            "SESSIONSIGHT_SPOOL": f"sqlalchemy:{database}",
        }
        ran = start("relay", "--once", folder=tmp_path, environ=environ)
        assert ran.returncode == 0, ran.stderr
        server.wait_for(1)
    assert tally(web.client.stats().lanes["signal"]) == {"captured": 1, "delivered": 1}
    web.client.shutdown(0)


# --- connections ------------------------------------------------------------------------------------


@on_postgresql
def test_postgresql_vacuums_the_tables_of_short_lived_rows_often(database: str) -> None:
    found = execute(database, "SELECT relname, reloptions FROM pg_class WHERE 'fillfactor=70' = ANY (reloptions)")
    assert {name for name, _ in found} == {f"sessionsight_{table}" for table in ("inbox", "queue", "count")}
    assert all("autovacuum_vacuum_threshold=1000" in options for _, options in found)


def test_parameters_are_marked_as_the_driver_wants_them() -> None:
    marked = {}
    for style in ("qmark", "numeric_dollar", "pyformat"):
        with create_engine("sqlite://", paramstyle=style, poolclass=NullPool).connect() as connection:
            marked[style] = Cursor(connection)._marked("VALUES (%s, %s)")
    assert marked == {"qmark": "VALUES (?, ?)", "numeric_dollar": "VALUES ($1, $2)", "pyformat": "VALUES (%s, %s)"}


def test_a_repeated_write_counts_once_also_after_it_was_taken_in(database: str) -> None:
    store = sqlalchemy_store(database)
    for _ in range(2):
        store.enqueue([], {("analyse", "captured"): 1}, batch_id=b"0123456789", timeout=20.0)
        assert store.counts("analyse")["captured"] == 1
    store.close()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_forked_child_leaves_the_connection_to_its_parent(database: str) -> None:
    own = own_connection(create_engine(database).url)
    sessions = []
    for _ in range(2):
        with transaction(own) as cursor:
            cursor.execute("SELECT pg_backend_pid()" if cursor.db.vendor == "postgresql" else "SELECT connection_id()")
            sessions.append(cursor.fetchone()[0])
        child = os.fork()
        if child == 0:
            own.close()
            del own, cursor
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
    with transaction(own) as cursor:
        cursor.execute("SELECT 1")
    assert sessions[0] == sessions[1]
    own.close()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("committing", [True, False])
def test_a_lost_connection_is_replaced(database: str, *, committing: bool) -> None:
    own = own_connection(create_engine(database).url)
    with pytest.raises(StoreUnavailable) as raised:
        lose(own, database, committing=committing)
    assert isinstance(raised.value, AnswerLost) is committing
    assert not own.is_open
    with transaction(own) as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    own.close()


def lose(own: sql_connection.OwnConnection, database: str, *, committing: bool) -> None:
    """Lose a connection at the commit, or before it."""
    functions = {"postgresql": ("pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)")}
    with transaction(own) as cursor:
        current, kill = functions.get(cursor.db.vendor, ("connection_id()", "KILL {}"))
        cursor.execute(f"SELECT {current}")
        execute(database, kill.format(cursor.fetchone()[0]))
        if not committing:
            cursor.execute("SELECT 1")


def test_a_locked_row_or_file_is_a_busy_store(database: str) -> None:
    own, other = own_connection(create_engine(database).url), own_connection(create_engine(database).url)
    with transaction(own) as cursor:
        cursor.execute("INSERT INTO sessionsight_owner (owner, expires_at, on_trial) VALUES ('a', 0, 0)")
        with pytest.raises(StoreBusy):
            add_owner(other, cursor.db.vendor)
    assert rows(database, "owner") == 1
    own.close()
    other.close()


def add_owner(own: sql_connection.OwnConnection, vendor: str) -> None:
    """Add an owner, without waiting for long."""
    limit = "SET LOCAL lock_timeout = 10" if vendor == "postgresql" else "SET innodb_lock_wait_timeout = 1"
    with transaction(own, 0.01) as cursor:
        cursor.execute(limit)
        cursor.execute("INSERT INTO sessionsight_owner (owner, expires_at, on_trial) VALUES ('a', 0, 0)")


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    own = own_connection(create_engine(f"postgresql+{DRIVERS['postgresql']}://127.0.0.1:1/shop?connect_timeout=2").url)
    with pytest.raises(StoreUnavailable), transaction(own):
        pass
