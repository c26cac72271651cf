"""Writes into the outbox that fail, and the transactions that they are part of."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from sessionsight.request.context import TrackingContext
from sessionsight.sqlalchemy import bind
from tests.adapters.recording import Recorder
from tests.core.sqlalchemy.orders import (
    Base,
    Order,
    counts,
    delivered,
    on_postgresql,
    on_sqlite,
    outbox_recorder,
)
from tests.core.sqlalchemy_databases import ENGINES, execute, rows, sqlalchemy_database


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
