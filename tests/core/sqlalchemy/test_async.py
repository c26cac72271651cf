"""Records that are captured in transactions of async sessions, with every driver that is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from sessionsight.sqlalchemy import bind
from tests.adapters.recording import Recorder
from tests.core.sqlalchemy.orders import Order, counts, delivered
from tests.core.sqlalchemy_databases import execute, sqlalchemy_database

ENGINES = {
    "psycopg": "postgresql",
    "asyncpg": "postgresql",
    "aiomysql": "mariadb",
    "asyncmy": "mariadb",
    "aiosqlite": "sqlite",
}
DRIVERS = [driver for driver in ENGINES if find_spec(driver)]
SERVERS = [driver for driver in DRIVERS if driver != "aiosqlite"]

Use = Callable[[Callable[[AsyncSession], Awaitable[None]]], None]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(driver: str, tmp_path: Path) -> Iterator[str]:
    with sqlalchemy_database(ENGINES[driver], tmp_path) as url:
        execute(url, "CREATE TABLE orders (id INTEGER, PRIMARY KEY (id))")
        yield url


@pytest.fixture(params=[False, True], ids=["hold", "outbox"])
def outbox(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def use(database: str, driver: str, *, outbox: bool) -> Use:
    """Runs a function with a session, which is bound."""

    def run(work: Callable[[AsyncSession], Awaitable[None]]) -> None:
        async def run_with_session() -> None:
            scheme, _, rest = database.partition("://")
            engine = create_async_engine(f"{scheme.partition('+')[0]}+{driver}://{rest}", poolclass=NullPool)
            make = async_sessionmaker(engine, expire_on_commit=False)
            bind(make, outbox=outbox)
            async with make() as session:
                await work(session)

        asyncio.run(run_with_session())

    return run


def test_records_share_the_fate_of_their_transaction(recorder: Recorder, use: Use, capture: Any) -> None:
    async def work(session: AsyncSession) -> None:
        for end in (session.rollback, session.commit):
            session.add(Order(id=1))
            await session.flush()
            capture("flushed")
            async with session.begin_nested():
                capture("released")
            with suppress(ZeroDivisionError):
                async with session.begin_nested():
                    capture("lost")
                    raise ZeroDivisionError
            await end()

    use(work)
    assert sorted(delivered(recorder)) == ["flushed", "released"]
    assert counts(recorder) == {"captured": 6, "delivered": 2, "rolled_back": 4}


@pytest.mark.parametrize("outbox", [True], indirect=True, ids=["outbox"])
def test_a_write_that_fails_leaves_the_transaction(
    recorder: Recorder, use: Use, capture: Any, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(session: AsyncSession) -> None:
        session.add(Order(id=1))
        capture("bought")
        await session.commit()

    execute(database, "ALTER TABLE sessionsight_inbox RENAME TO moved")
    use(work)
    assert execute(database, "SELECT id FROM orders") == [(1,)]
    assert "the tables are missing: create those of sessionsight.sqlalchemy.metadata" in caplog.text
    execute(database, "ALTER TABLE moved RENAME TO sessionsight_inbox")
    assert recorder.client.flush(20)
    assert delivered(recorder) == ["bought"]


@pytest.mark.parametrize("driver", SERVERS, indirect=True)
def test_a_lost_connection_is_an_error_of_the_commit(recorder: Recorder, use: Use, capture: Any, database: str) -> None:
    async def work(session: AsyncSession) -> None:
        session.add(Order(id=1))
        await session.flush()
        if database.startswith("postgresql"):
            current = await session.scalar(text("SELECT pg_backend_pid()"))
            execute(database, f"SELECT pg_terminate_backend({current}, 5000)")
        else:
            execute(database, f"KILL {await session.scalar(text('SELECT connection_id()'))}")
        capture("lost")
        with pytest.raises(DBAPIError):
            await session.commit()
        await session.invalidate()

    use(work)
    assert execute(database, "SELECT id FROM orders") == []
    assert delivered(recorder) == []
