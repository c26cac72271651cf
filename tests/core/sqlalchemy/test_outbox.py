"""Records that are captured in transactions of SQLAlchemy, and written by them into the outbox of their database."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.orm import Session, sessionmaker

from sessionsight import InvalidEventError
from sessionsight.sqlalchemy import bind, metadata
from sessionsight.testing import record
from tests.adapters.recording import Recorder
from tests.core.sqlalchemy.orders import (
    Order,
    Refund,
    counts,
    delivered,
    inserts,
    on_postgresql,
    on_sqlite,
    outbox_recorder,
)
from tests.core.sqlalchemy_databases import execute, rows


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
