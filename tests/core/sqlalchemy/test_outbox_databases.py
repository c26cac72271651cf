"""The database that a session writes, and the setting that names the one of the outbox."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Delete, Engine, Update, create_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from sessionsight import Client, ConfigurationError, MissingDependencyError, Settings
from sessionsight.sqlalchemy import bind
from sessionsight.testing import record
from tests.adapters.recording import Recorder
from tests.core.sqlalchemy.orders import (
    Order,
    Refund,
    counts,
    delivered,
    on_sqlite,
    outbox_recorder,
)
from tests.core.sqlalchemy_databases import DRIVERS, rows


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
