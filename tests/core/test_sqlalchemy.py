"""Records that are captured in transactions of SQLAlchemy, in databases in files: when they are sent, and when not."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlmodel
from sqlalchemy import Engine, create_engine, event, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from sessionsight import ConfigurationError, InvalidEventError, MissingDependencyError
from sessionsight.capture import transactions
from sessionsight.capture.records import EventRecord
from sessionsight.sqlalchemy import bind
from tests.core.box import Recorder


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="new")


class Refund(Exception):
    """Ends a block."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with one order."""
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.sqlite3'}")
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Order(id=1))
    yield engine
    engine.dispose()


@pytest.fixture
def make(engine: Engine) -> sessionmaker[Session]:
    """Makes bound sessions."""
    maker = sessionmaker(engine)
    bind(maker)
    return maker


@pytest.fixture
def capture(recorder: Recorder) -> Callable[..., object]:
    return recorder.client.bind(user_id="user_1").capture


def names(recorder: Recorder) -> list[str]:
    """The events that were sent."""
    return [record.name for record in recorder.records() if isinstance(record, EventRecord)]


def rolled_back(recorder: Recorder) -> int:
    return recorder.dropped().get("rolled_back", 0)


# --- commits and rollbacks -----------------------------------------------------------------------------


def test_records_are_sent_after_the_commit(recorder: Recorder, make: Any, capture: Any) -> None:
    capture("before")
    with make.begin() as session:
        session.add(Order())
        capture("first")
        session.flush()
        capture("second")
        assert names(recorder) == ["before"]
    capture("after")
    assert names(recorder) == ["before", "first", "second", "after"]
    assert recorder.dropped() == {}


def test_a_savepoint_within_a_flush_belongs_to_the_transaction_around_the_flush(
    recorder: Recorder, make: Any, capture: Any
) -> None:
    with make.begin() as session:

        def audit(*_: object) -> None:
            with session.begin_nested():
                capture("audited")

        event.listen(session, "after_flush", audit)
        session.add(Order())
        session.flush()
        assert names(recorder) == []
    assert names(recorder) == ["audited"]


def test_a_commit_of_nothing_is_a_commit(recorder: Recorder, make: Any, capture: Any) -> None:
    with make() as session:
        session.begin()
        capture("inside")
        assert names(recorder) == []
        session.commit()
        assert names(recorder) == ["inside"]


def test_a_rollback_is_counted(recorder: Recorder, make: Any, capture: Any) -> None:
    with suppress(Refund), make.begin():
        capture("inside")  # before any change
        raise Refund
    with make() as session:
        session.add(Order())
        capture("inside")
        session.rollback()
        capture("after")
    assert names(recorder) == ["after"]
    assert rolled_back(recorder) == 2


def test_a_session_can_be_used_again(recorder: Recorder, make: Any, capture: Any) -> None:
    with make() as session:
        session.add(Order())
        session.commit()
        session.scalars(select(Order)).all()
        capture("read")
    assert names(recorder) == ["read"]


def test_savepoints_are_released_into_the_transaction_around_them(recorder: Recorder, make: Any, capture: Any) -> None:
    with make.begin() as session:
        capture("outer")
        with session.begin_nested():
            capture("kept")
        with suppress(Refund), session.begin_nested():
            capture("line")
            with session.begin_nested():
                session.add(Order())
                capture("line_of_line")
            raise Refund
        capture("instead")
        assert names(recorder) == []
        assert rolled_back(recorder) == 2
    assert names(recorder) == ["outer", "kept", "instead"]


def test_a_rollback_includes_what_savepoints_have_released(recorder: Recorder, make: Any, capture: Any) -> None:
    with make() as session:
        with session.begin_nested():
            capture("released")
        session.begin_nested()
        capture("in_an_open_savepoint")
        session.rollback()
    assert names(recorder) == []
    assert rolled_back(recorder) == 2


def test_a_failed_flush_is_a_rollback_at_once(recorder: Recorder, make: Any, capture: Any) -> None:
    with make() as session:
        session.add(Order(id=1))
        capture("order_processed")
        with pytest.raises(IntegrityError):
            session.commit()
        assert rolled_back(recorder) == 1
        capture("order_failed")  # the transaction is over, although the session does not know yet
        assert names(recorder) == ["order_failed"]
        session.rollback()
    assert rolled_back(recorder) == 1


def test_a_failed_flush_in_a_savepoint_leaves_the_transaction(recorder: Recorder, make: Any, capture: Any) -> None:
    with make.begin() as session:
        capture("outer")
        with suppress(IntegrityError), session.begin_nested():
            session.add(Order(id=1))
            capture("inner")
            session.flush()
        capture("instead")
    assert names(recorder) == ["outer", "instead"]
    assert rolled_back(recorder) == 1


def test_two_phases(
    recorder: Recorder, engine: Engine, make: Any, capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for phase, call in {"begin": None, "prepare": None, "commit": "commit", "rollback": "rollback"}.items():

        def do(connection: Any, xid: Any, *_: Any, call: str | None = call, **__: Any) -> None:
            if call is not None:
                getattr(connection.connection, call)()

        monkeypatch.setattr(engine.dialect, f"do_{phase}_twophase", do, raising=False)
    sent: list[list[str]] = []
    for end in ("commit", "rollback"):
        with make(twophase=True) as session:
            session.add(Order())
            session.flush()
            capture(end)
            session.prepare()
            capture("prepared")
            sent.append(names(recorder))
            getattr(session, end)()
            sent.append(names(recorder))
    assert sent == [[], ["commit", "prepared"], ["commit", "prepared"], ["commit", "prepared"]]
    assert rolled_back(recorder) == 2


def test_in_the_recipe_for_tests_the_sessions_own_commit_counts(
    recorder: Recorder, engine: Engine, make: Any, capture: Any
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with make(bind=connection, join_transaction_mode="create_savepoint") as session:
            session.add(Order())
            capture("committed")
            session.commit()
            assert names(recorder) == ["committed"]
            session.add(Order())
            capture("rolled_back")
            session.rollback()
        outer.rollback()
    assert names(recorder) == ["committed"]
    assert rolled_back(recorder) == 1


# --- sessions that are closed or forgotten --------------------------------------------------------------


def _modify(session: Session) -> None:
    session.scalars(select(Order)).one().status = "paid"


def _modify_and_flush(session: Session) -> None:
    _modify(session)
    session.flush()


READS: dict[str, Callable[[Session], object]] = {
    "nothing": lambda session: session.begin(),
    "select": lambda session: session.scalars(select(Order)).all(),
    "get": lambda session: session.get(Order, 1),
    "text": lambda session: session.execute(text(" SELECT 1")).all(),
    "savepoint": lambda session: session.begin_nested(),
}
CHANGES: dict[str, Callable[[Session], object]] = {
    "add": lambda session: session.add(Order()),
    "modify": _modify,
    "flush": _modify_and_flush,
    "delete": lambda session: session.delete(session.scalars(select(Order)).one()),
    "insert": lambda session: session.execute(insert(Order).values(status="new")),
    "update": lambda session: session.execute(update(Order).values(status="paid")),
    "text": lambda session: session.execute(text("DELETE FROM orders")),
}


@pytest.mark.parametrize("use", READS)
def test_what_only_reads_and_is_closed_has_rolled_nothing_back(
    recorder: Recorder, make: Any, capture: Any, use: str
) -> None:
    with make() as session:
        READS[use](session)
        capture("seen")
        assert names(recorder) == []
    assert names(recorder) == ["seen"]


@pytest.mark.parametrize("savepoint", [False, True])
@pytest.mark.parametrize("use", CHANGES)
def test_what_has_changes_and_is_closed_counts_as_rolled_back(
    recorder: Recorder, make: Any, capture: Any, use: str, savepoint: bool
) -> None:
    with make() as session:
        if savepoint:
            session.begin_nested()
        CHANGES[use](session)
        capture("seen")
    assert names(recorder) == []
    assert rolled_back(recorder) == 1


def _modify_and_remove(session: Session, order: Order) -> None:
    order.status = "paid"
    session.expunge(order)


CHANGES_AFTER: dict[str, Callable[[Session, Order], object]] = {
    "add": lambda session, order: session.add(Order()),
    "modify": lambda session, order: setattr(order, "status", "paid"),
    "modify and remove": _modify_and_remove,
}


@pytest.mark.parametrize("change", CHANGES_AFTER)
def test_a_change_after_the_capture_counts_as_well(recorder: Recorder, make: Any, capture: Any, change: str) -> None:
    with make() as session:
        order = session.get(Order, 1)
        assert order is not None
        capture("seen")
        CHANGES_AFTER[change](session, order)
    assert names(recorder) == []
    assert rolled_back(recorder) == 1


@pytest.mark.parametrize(("changes", "sent"), [(False, ["seen"]), (True, [])])
def test_a_forgotten_session_counts_as_a_closed_one(
    recorder: Recorder, make: Any, capture: Any, changes: bool, sent: list[str]
) -> None:
    session = make()
    session.begin()
    if changes:
        session.add(Order())
    capture("seen")
    assert names(recorder) == []
    del session
    gc.collect()
    assert names(recorder) == sent
    assert rolled_back(recorder) == 1 - len(sent)


def test_a_session_that_ends_with_the_interpreter_reports_nothing(
    recorder: Recorder, make: Any, capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make()
    session.begin()
    capture("seen")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "is_finalizing", lambda: True)
        del session
        gc.collect()
    assert names(recorder) == []
    assert recorder.dropped() == {}


# --- which session -------------------------------------------------------------------------------------


def test_the_session_used_last_decides(recorder: Recorder, make: Any, capture: Any) -> None:
    with make() as first, make() as second:
        first.begin()
        second.begin()
        capture("in_the_second")
        first.scalars(select(Order)).all()
        capture("in_the_first")
        first.commit()
        assert names(recorder) == ["in_the_first"]
        capture("in_the_second_again")  # the only one whose transaction is open
        second.rollback()
        capture("outside")
    assert names(recorder) == ["in_the_first", "outside"]
    assert rolled_back(recorder) == 2


def test_a_call_may_name_its_session(recorder: Recorder, engine: Engine, make: Any, capture: Any) -> None:
    registry = scoped_session(make)
    with make() as used, Session(engine) as unbound:
        unbound.begin()
        registry.begin()
        used.begin()
        capture("registry", using=registry)
        capture("unbound", using=unbound)
        registry.commit()
        assert names(recorder) == ["registry"]
        unbound.commit()
        assert names(recorder) == ["registry", "unbound"]
        capture("at_once", using=unbound)
        with pytest.raises(InvalidEventError, match="no database 'warehouse', because this client is not Django's"):
            capture("alias", using="warehouse")  # no session is meant
        assert names(recorder) == ["registry", "unbound", "at_once"]
        registry.remove()


def test_a_call_may_opt_out(recorder: Recorder, make: Any, capture: Any) -> None:
    with suppress(Refund), make.begin() as session:
        capture("tried", on_commit=False)
        capture("tried_as_well", on_commit=False, using=session)
        raise Refund
    assert names(recorder) == ["tried", "tried_as_well"]


def test_other_sessions_do_not_matter(recorder: Recorder, engine: Engine, make: Any, capture: Any) -> None:
    with suppress(Refund), Session(engine) as session, session.begin():
        capture("seen")
        raise Refund
    assert names(recorder) == ["seen"]


def test_each_thread_has_its_own_sessions_and_passes_them_on_with_its_context(
    recorder: Recorder, make: Any, capture: Any
) -> None:
    with make.begin():
        copied = contextvars.copy_context()
        # Without the interpreter lock a thread inherits the context of the code that starts it.
        for context, name in ((contextvars.Context(), "elsewhere"), (copied, "part_of_it")):
            thread = threading.Thread(target=context.run, args=(capture, name))
            thread.start()
            thread.join()
        assert names(recorder) == ["elsewhere"]
    copied.run(capture, "later")
    assert names(recorder) == ["elsewhere", "part_of_it", "later"]


def test_a_transaction_that_another_thread_has_begun_counts_where_it_is_used(
    recorder: Recorder, make: Any, capture: Any
) -> None:
    session = make()
    thread = threading.Thread(target=session.begin)  # as a dependency of FastAPI in a worker thread
    thread.start()
    thread.join()
    capture("not_yet")
    session.add(Order())
    capture("inside")
    assert names(recorder) == ["not_yet"]
    session.close()
    assert rolled_back(recorder) == 1


def test_a_commit_on_another_thread_during_the_capture(
    recorder: Recorder, make: Any, capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = transactions._sessions
    assert sessions is not None
    defer = sessions.defer

    def defer_and_commit(*args: Any) -> bool:
        waits = defer(*args)
        session.commit()
        return waits

    session = make()
    session.begin()
    monkeypatch.setattr(sessions, "defer", defer_and_commit)
    capture("inside")
    session.close()
    assert names(recorder) == ["inside"]


def test_discarded_records_do_not_come_back(recorder: Recorder, make: Any) -> None:
    analytics = recorder.client.bind(user_id="user_1")
    with make.begin():
        analytics.capture("inside")
        analytics.discard()
    assert names(recorder) == []
    assert recorder.dropped() == {"discarded": 1}


@pytest.mark.parametrize("registered", [True, False])
def test_other_values_are_refused(
    recorder: Recorder, make: Any, capture: Any, monkeypatch: pytest.MonkeyPatch, registered: bool
) -> None:
    if not registered:
        monkeypatch.setattr(transactions, "_sessions", None)
    wrong: Any = 1 if registered else make()
    with pytest.raises(InvalidEventError, match="using must be the alias of a database or a session of SQLAlchemy"):
        capture("seen", using=wrong)
    assert names(recorder) == []


# --- what can be bound ---------------------------------------------------------------------------------


class OwnSession(Session):
    pass


class OwnModelSession(sqlmodel.Session):
    pass


TARGETS: dict[str, Callable[[Engine], tuple[Any, Callable[[], Session]]]] = {
    "sessionmaker": lambda engine: (maker := sessionmaker(engine), maker),
    "class": lambda engine: (OwnSession, lambda: OwnSession(engine)),
    "sqlmodel": lambda engine: (OwnModelSession, lambda: OwnModelSession(engine)),
    "scoped_session": lambda engine: (registry := scoped_session(sessionmaker(engine)), registry),
    "session": lambda engine: (session := Session(engine), lambda: session),
}


@pytest.mark.parametrize("target", TARGETS)
def test_what_can_be_bound(recorder: Recorder, engine: Engine, capture: Any, target: str) -> None:
    bound, make_session = TARGETS[target](engine)
    bind(bound)
    bind(bound)
    session = make_session()
    for end in (session.rollback, session.commit):
        session.add(Order())
        capture("seen")
        assert names(recorder) == []
        end()
    assert names(recorder) == ["seen"]
    assert rolled_back(recorder) == 1
    session.close()


def test_a_session_may_be_bound_in_its_transaction(recorder: Recorder, engine: Engine, capture: Any) -> None:
    with Session(engine) as session:
        session.begin()
        with session.begin_nested():
            bind(session)
            capture("inside")
        capture("around")
        assert names(recorder) == []
        session.commit()
    assert names(recorder) == ["inside", "around"]


NOT_SESSIONS: list[Any] = [None, 1, Order, scoped_session(dict), AsyncSession]  # type: ignore[arg-type]


@pytest.mark.parametrize("target", NOT_SESSIONS, ids=lambda target: type(target).__name__)
def test_nothing_else_can_be_bound(target: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"bind\(\) takes a sessionmaker or a session of SQLAlchemy, not"):
        bind(target)


def test_without_sqlalchemy_the_module_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.delitem(sys.modules, "sessionsight.sqlalchemy")
    with pytest.raises(MissingDependencyError, match="pip install"):
        importlib.import_module("sessionsight.sqlalchemy")


# --- async sessions ------------------------------------------------------------------------------------

ASYNC_TARGETS: dict[str, Callable[[Any], tuple[Any, Callable[[], AsyncSession]]]] = {
    "async_sessionmaker": lambda engine: (maker := async_sessionmaker(engine), maker),
    "sync_session_class": lambda engine: (
        maker := async_sessionmaker(engine, sync_session_class=sessionmaker()),
        maker,
    ),
    "async_scoped_session": lambda engine: (
        registry := async_scoped_session(async_sessionmaker(engine), asyncio.current_task),
        registry,
    ),
    "session": lambda engine: (session := AsyncSession(engine), lambda: session),
}


@pytest.mark.parametrize("target", ASYNC_TARGETS)
def test_async_sessions(recorder: Recorder, engine: Engine, capture: Any, target: str) -> None:
    async def use() -> None:
        async_engine = create_async_engine(str(engine.url).replace("sqlite:", "sqlite+aiosqlite:"))
        bound, make_session = ASYNC_TARGETS[target](async_engine)
        bind(bound)
        bind(bound)
        async with make_session() as session:
            for end in (session.rollback, session.commit):
                session.add(Order())
                await session.flush()
                capture("flushed")
                capture("named", using=session)
                await end()
            await session.scalars(select(Order))
            capture("read")
        async with AsyncSession(async_engine) as other:
            await other.begin()
            capture("elsewhere")
            await other.rollback()
        await async_engine.dispose()

    asyncio.run(use())
    assert names(recorder) == ["flushed", "named", "read", "elsewhere"]
    assert rolled_back(recorder) == 2


def test_tasks_do_not_share_their_sessions(recorder: Recorder, engine: Engine, capture: Any) -> None:
    async def use() -> None:
        async_engine = create_async_engine(str(engine.url).replace("sqlite:", "sqlite+aiosqlite:"))
        maker = async_sessionmaker(async_engine)
        bind(maker)
        barrier = asyncio.Barrier(2)

        async def order(name: str, *, fails: bool) -> None:
            with suppress(Refund):
                async with maker.begin() as session:
                    await session.scalars(select(Order))
                    await barrier.wait()
                    capture(name)
                    if fails:
                        raise Refund

        await asyncio.gather(order("kept", fails=False), order("lost", fails=True))
        await async_engine.dispose()

    asyncio.run(use())
    assert names(recorder) == ["kept"]
    assert rolled_back(recorder) == 1
